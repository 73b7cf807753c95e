"""Whether the embedded engine could ever serve a request, told without loading the model's weights.

Knows configurations, tokenizers and the engine's bounds; nothing of dialogs.
"""

from nescio.core.guidance import PROTECT, REVEAL
from nescio.core.models import context_of, load_tokenizer
from nescio.engines.base import ContextExceededError, Request
from nescio.engines.decode.batch import Rows
from nescio.engines.prompt_branches import branch_ids
from nescio.engines.torch_engine import CACHE_TOKENS


class Room:
    """The room that a model has for requests.

    Args:
        model: As for `nescio.load`.

    Raises:
        NescioError: The model, or its tokenizer, can't be found.
    """

    def __init__(self, model: str) -> None:
        self.context = context_of(model)
        self._tokenizer = load_tokenizer(model)

    def serves(self, request: Request) -> bool:
        """Whether prompt and answer fit in the model's context, and all branches in the engine's cache."""
        sentences = {"positive": PROTECT, "negative": REVEAL}
        try:
            branches = branch_ids(self._tokenizer, sentences, request, self.context)
        except ContextExceededError:
            return False
        return max(map(len, branches)) + request.max_tokens <= Rows.most_tokens(len(branches), CACHE_TOKENS)
