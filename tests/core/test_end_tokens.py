"""All tokens that end an answer: the model's list, the tokenizer's EOS, and the template's end of a turn."""

from types import SimpleNamespace
from typing import Any

import pytest

from nescio.core.end_tokens import end_token_ids, turn_end


@pytest.fixture
def base_eos(make_tokenizer: Any) -> Any:
    """A ChatML tokenizer whose EOS is the base model's end of a text, not the template's end of a turn."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    return tokenizer


def test_a_turn_ends_with_the_templates_token(base_eos: Any) -> None:
    assert base_eos.eos_token == "<|endoftext|>"
    assert turn_end(base_eos) == "<|im_end|>"


def test_a_turn_ends_with_eos_where_the_template_writes_no_token(base_eos: Any) -> None:
    base_eos.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert turn_end(base_eos) == "<|endoftext|>"
    base_eos.chat_template = "{{ raise_exception('no') }}"
    assert turn_end(base_eos) == "<|endoftext|>"
    base_eos.chat_template = None
    assert turn_end(base_eos) == "<|endoftext|>"


def test_all_end_tokens_count(base_eos: Any) -> None:
    ends = {base_eos.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>")}
    assert end_token_ids(base_eos) == ends
    assert end_token_ids(base_eos, SimpleNamespace(eos_token_id=[7, 9])) == {7, 9, *ends}
    assert end_token_ids(base_eos, SimpleNamespace(eos_token_id=7)) == {7, *ends}
