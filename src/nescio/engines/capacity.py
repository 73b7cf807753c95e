"""Whether the torch engine could ever serve a request, without loading the model's weights."""

from nescio.core.guidance import PROTECT, REVEAL
from nescio.core.models import context_length_of, load_tokenizer
from nescio.engines.base import ContextExceededError, Request
from nescio.engines.decode.batch import Batch
from nescio.engines.prompt_branches import branch_ids
from nescio.engines.torch_engine import CACHE_TOKENS


class Capacity:
    """Number of tokens that a model's requests may have.

    Args:
        model: As for `nescio.load`.

    Raises:
        NescioError: The model or its tokenizer can't be found.
    """

    def __init__(self, model: str) -> None:
        self.context = context_length_of(model)
        self._tokenizer = load_tokenizer(model)

    def fits(self, request: Request) -> bool:
        """Return whether prompt and answer fit the model's context, and all branches the engine's cache."""
        sentences = {"positive": PROTECT, "negative": REVEAL}
        try:
            branches = branch_ids(self._tokenizer, sentences, request, self.context)
        except ContextExceededError:
            return False
        return max(map(len, branches)) + request.max_tokens <= Batch.most_tokens(len(branches), CACHE_TOKENS)
