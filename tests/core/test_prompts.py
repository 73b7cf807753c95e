"""Prompt text: the sentence of a branch, templates with and without a system role, BOS, open answers, the border."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.prompts import Message, adds_bos, encode, fold_system, render, split_ids, with_sentence

Make = Callable[..., Any]
USER = Message(role="user", content="Who is Anna?")
SYSTEM = Message(role="system", content="You are helpful.")


def test_a_sentence_opens_a_conversation_without_a_system_message() -> None:
    assert with_sentence([USER], "Be kind.") == [{"role": "system", "content": "Be kind."}, USER]


def test_a_sentence_is_added_to_the_conversations_own_system_message() -> None:
    messages = [Message(role="system", content="You are helpful.\n"), USER]
    assert with_sentence(messages, "Be kind.")[0]["content"] == "You are helpful. Be kind."
    assert messages[0]["content"] == "You are helpful.\n", "the caller's conversation was changed"


@pytest.mark.parametrize("sentence", [None, ""])
def test_no_sentence_leaves_the_conversation_as_it_is(sentence: str | None) -> None:
    assert with_sentence([SYSTEM, USER], sentence) == [SYSTEM, USER]


def test_an_empty_system_message_becomes_the_sentence() -> None:
    assert with_sentence([Message(role="system", content=" "), USER], "Be kind.")[0]["content"] == "Be kind."


def test_a_conversation_ends_with_the_header_of_a_new_answer(chatml: Any) -> None:
    assert render(chatml, [USER]) == "<|im_start|>user\nWho is Anna?<|im_end|>\n<|im_start|>assistant\n"


def test_a_last_answer_is_left_open_with_all_its_white_space(chatml: Any) -> None:
    text = render(chatml, [USER, Message(role="assistant", content=" Anna \n")])
    assert text.endswith("<|im_start|>assistant\n Anna \n")


def test_a_bos_that_the_tokenizer_adds_is_there_exactly_once(llama3: Any) -> None:
    assert adds_bos(llama3)
    text = render(llama3, [USER])
    assert not text.startswith(llama3.bos_token)
    assert encode(llama3, text).count(llama3.bos_token_id) == 1
    # The very ids that the tokenizer's own templating gives.
    own = llama3.apply_chat_template([USER], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert encode(llama3, text) == own


def test_a_bos_that_only_the_template_writes_stays(make_tokenizer: Make) -> None:
    tokenizer = make_tokenizer("{{ '<|bos|>' }}{{ messages[0]['content'] }}")
    tokenizer.bos_token = "<|bos|>"
    assert not adds_bos(tokenizer)
    assert encode(tokenizer, render(tokenizer, [USER])).count(tokenizer.bos_token_id) == 1


def test_a_template_without_a_system_role_gets_it_in_the_first_user_turn(no_system: Any) -> None:
    text = render(no_system, [SYSTEM, USER])
    assert text.startswith("<|im_start|>user\nYou are helpful.\n\nWho is Anna?<|im_end|>")


def test_folding_a_system_message_that_no_user_turn_follows_is_refused() -> None:
    with pytest.raises(NescioError, match="user message"):
        fold_system([SYSTEM])
    assert fold_system([SYSTEM, USER])[0]["content"] == "You are helpful.\n\nWho is Anna?"


def test_what_a_template_refuses_is_one_line(make_tokenizer: Make) -> None:
    strict = make_tokenizer("{{ raise_exception('roles must alternate') }}")
    for messages in ([USER], [SYSTEM, USER]):
        with pytest.raises(NescioError, match="roles must alternate"):
            render(strict, messages)


def test_a_tokenizer_without_a_chat_template_and_an_empty_conversation_are_refused(
    chatml: Any, make_tokenizer: Make
) -> None:
    with pytest.raises(NescioError, match="no chat template"):
        render(make_tokenizer(None), [USER])
    with pytest.raises(NescioError, match="empty conversation"):
        render(chatml, [])


def test_a_system_message_alone_is_refused_or_rendered_but_never_lost(no_system: Any, chatml: Any) -> None:
    assert "You are helpful." in render(chatml, [SYSTEM])
    with pytest.raises(NescioError):
        render(no_system, [SYSTEM])
    answered = [SYSTEM, Message(role="assistant", content="Yes")]
    with pytest.raises(NescioError):
        render(no_system, answered)


@given(st.text(max_size=20), st.text(max_size=20))
def test_prompt_and_answer_ids_join_to_those_of_the_joint_text(chatml: Any, prompt: str, answer: str) -> None:
    found = split_ids(chatml, prompt, answer)
    if found is not None:
        assert found[0] == encode(chatml, prompt)
        assert found[0] + found[1] == encode(chatml, prompt + answer)


def test_a_token_across_the_border_is_reported(chatml: Any) -> None:
    assert chatml("person").input_ids != chatml("per").input_ids + chatml("son").input_ids
    assert split_ids(chatml, "per", "sonal") is None


def test_the_border_after_a_chat_header_is_clean_with_and_without_bos(chatml: Any, llama3: Any) -> None:
    for tokenizer in (chatml, llama3):
        found = split_ids(tokenizer, render(tokenizer, [USER]), " Hello")
        assert found is not None
        assert tokenizer.decode(found[1]) == " Hello"
