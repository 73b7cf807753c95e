"""Control tokens in a caller's text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.serve.control_tokens import refuse_control
from nescio.serve.errors import ApiError
from nescio.serve.served import Served

WORDS = st.text("<|ab.", min_size=1, max_size=4)


def refused(text: str, tokens: tuple[str, ...]) -> str | None:
    try:
        refuse_control(text, "prompt", Served("m", {}, tokens, 0))
    except ApiError as error:
        return str(error)
    return None


@given(text=st.text("<|ab.", max_size=8), tokens=st.lists(WORDS, max_size=5).map(tuple))
def test_any_token_is_found_and_nothing_else(text: str, tokens: tuple[str, ...]) -> None:
    message = refused(text, tokens)
    assert (message is not None) == any(token in text for token in tokens)
    assert message is None or any(f"contains {token}, a control token" in message for token in tokens if token in text)


def test_other_unicode_forms_are_looked_at_where_there_can_be_any(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ("<s>", "</s>")
    assert refused("say \uff1cs\uff1e", tokens) == "prompt: contains <s>, a control token of the model; remove it"
    with monkeypatch.context() as patched:
        patched.setattr(unicodedata, "normalize", None)
        assert refused("plain text", tokens) is None


def test_tokens_that_begin_alike_are_told_apart_by_one_reading() -> None:
    """Looked for one by one, each would read this text to its end: minutes."""
    tokens = tuple(f"{'<' * 9}|reserved_{number}|>" for number in range(2_000))
    assert refused("<" * 2**20, tokens) is None
    assert "reserved_7|>" in (refused(f"{'<' * 2**20}|reserved_7|>", tokens) or "")
