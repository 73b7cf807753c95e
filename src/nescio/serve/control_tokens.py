"""Control tokens in what a caller writes: text that the tokenizer would read as the start or end of a turn."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from os.path import commonprefix

from nescio.serve.errors import ApiError
from nescio.serve.served import Served


def refuse_control(text: str | None, param: str, served: Served) -> None:
    """Refuse text that the tokenizer would read as the start or end of a turn.

    Raises:
        ApiError: It holds a control token, as it is or in another Unicode form.
    """
    pattern = _pattern(tuple(served.control_tokens))
    if text is None or pattern is None:
        return
    forms = [text] if text.isascii() else [text, unicodedata.normalize("NFKC", text)]
    if found := next(filter(None, map(pattern.search, forms)), None):
        raise ApiError(
            400, f"{param}: contains {found[0]}, a control token of the model; remove it", "control_token", param
        )


@lru_cache
def _pattern(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile(_any_of(tokens)) if tokens else None


def _any_of(tokens: Sequence[str]) -> str:
    """Return a pattern that branches where tokens differ: a text is read once, however many tokens begin alike."""
    common = commonprefix(tokens)  # noqa: RUF071 (of letters, not of folders)
    rests = sorted(token[len(common) :] for token in tokens)
    if not rests[0]:  # the shortest token is enough
        return re.escape(common)
    branches = (_any_of(list(rest)) for _, rest in groupby(rests, key=lambda rest: rest[0]))
    return f"{re.escape(common)}(?:{'|'.join(branches)})"
