"""Prompt text: the sentence of a branch, templates with and without a system role, BOS, open answers, the border."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import CHATML
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.prompts import (
    Message,
    adds_bos,
    answer_space,
    encode,
    fold_system,
    has_system_role,
    render,
    split_ids,
    with_sentence,
)

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


TOOLS = [{"type": "function", "function": {"name": "mail", "parameters": {"type": "object"}}}]
WITH_TOOLS = (
    "{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m.tool_calls or () %}<call>{{ c.function | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_tools_and_calls_go_through_the_template(make_tokenizer: Make) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "mail", "arguments": '{"to": "Zoë"}'}}
    turns = [USER, Message(role="assistant", content="", tool_calls=[call])]
    result = Message(role="tool", content="sent", tool_call_id="1")
    text = render(make_tokenizer(WITH_TOOLS), [*turns, result], TOOLS)
    assert text.startswith('<|im_start|>tools\n[{"type": "function"')
    assert '<call>{"name": "mail", "arguments": {"to": "Zoë"}}<|im_end|>' in text, "arguments are an object there"
    assert text.endswith("<|im_start|>tool\nsent<|im_end|>\n<|im_start|>assistant\n")
    assert call["function"]["arguments"] == '{"to": "Zoë"}', "the caller's conversation was changed"
    call["function"]["arguments"] = "no JSON"
    assert '"arguments": "no JSON"' in render(make_tokenizer(WITH_TOOLS), [*turns, result], TOOLS)


def test_a_template_that_shows_no_tools_is_an_error(chatml: Any) -> None:
    with pytest.raises(NescioError, match="shows no tools"):
        render(chatml, [USER], TOOLS)


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


ONE_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' or loop.first %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_system_messages_are_merged_where_the_template_does_not_show_them_all(
    make_tokenizer: Make, chatml: Any, no_system: Any
) -> None:
    messages = [SYSTEM, {"role": "system", "content": "Sing."}, USER]
    both = f"{SYSTEM['content']} Sing."
    assert render(chatml, messages).count("<|im_start|>system") == 2
    assert render(make_tokenizer(ONE_SYSTEM), messages) == render(chatml, [SYSTEM | {"content": both}, USER])
    assert render(no_system, messages) == render(no_system, [SYSTEM | {"content": both}, USER])


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
    with pytest.raises(NescioError, match="nothing to answer; give at least one user message"):
        render(chatml, [{"role": "assistant", "content": "x"}])


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


IGNORES = (
    "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_template_that_drops_the_system_message_gets_it_in_the_first_user_turn(
    make_tokenizer: Make, trimmed: bool
) -> None:
    tokenizer = make_tokenizer(IGNORES.replace("m['content']", "m['content'] | trim") if trimmed else IGNORES)
    assert not has_system_role(tokenizer)
    answered = [SYSTEM, USER, Message(role="assistant", content="Anna."), USER]
    assert render(tokenizer, answered).startswith("<|im_start|>user\nYou are helpful.\n\nWho is Anna?<|im_end|>")
    # The two branches of guidance have to differ.
    assert render(tokenizer, with_sentence([USER], "Be kind.")) != render(tokenizer, with_sentence([USER], "Be rude."))


def test_a_template_that_shows_neither_system_nor_user_message_is_refused(make_tokenizer: Make) -> None:
    first_word = make_tokenizer("{% for m in messages %}{{ m['content'].split(' ')[0] }}{% endfor %}")
    with pytest.raises(NescioError, match="drops the system message"):
        render(first_word, [SYSTEM, Message(role="user", content="x")])
    with pytest.raises(NescioError, match="drops the last user message"):
        render(first_word, [USER])


def test_a_template_that_puts_the_system_message_before_the_last_user_turn_is_left_alone(make_tokenizer: Make) -> None:
    last = make_tokenizer(
        "{% set s = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% for m in messages if m['role'] != 'system' %}{% if m['role'] == 'user' %}[INST]"
        "{{ s + '\n\n' if loop.index >= (messages | length - 1) else '' }}{{ m['content'] }}[/INST]"
        "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    talk = [SYSTEM, USER, Message(role="assistant", content="Anna."), Message(role="user", content="Where?")]
    assert render(last, talk) == "[INST]Who is Anna?[/INST]Anna.[INST]You are helpful.\n\nWhere?[/INST]"


@pytest.mark.parametrize(
    ("opening", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think>\n\n</think>\n\n"),
        ("[THINK]", "[THINK]\n\n[/THINK]\n\n"),
    ],
)
def test_answers_stand_behind_a_thought_that_the_template_opens(
    make_tokenizer: Make, opening: str, closed: str
) -> None:
    tokenizer = make_tokenizer(CHATML.replace("assistant\n{% endif", f"assistant\n{opening}{{% endif"))
    assert render(tokenizer, [USER]).endswith(f"<|im_start|>assistant\n{closed}")
    opened = render(tokenizer, [USER, Message(role="assistant", content="Anna is")])
    assert opened.endswith(f"{closed}Anna is")


def test_a_template_with_a_switch_for_the_thought_has_it_turned_off(make_tokenizer: Make) -> None:
    off = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif"
    tokenizer = make_tokenizer(CHATML.replace("assistant\n{% endif", "assistant\n" + off))
    assert render(tokenizer, [USER]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_white_space_that_the_tokenizer_joins_with_the_answer_is_left_to_the_answer(
    make_tokenizer: Make, chatml: Any
) -> None:
    tokenizer = make_tokenizer("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: ")
    assert (render(tokenizer, [USER]), answer_space(tokenizer, [USER])) == ("user: Who is Anna?\nassistant:", " ")
    assert split_ids(tokenizer, render(tokenizer, [USER]), " Anna is my friend") is not None
    opened = [USER, Message(role="assistant", content="Anna")]
    assert render(tokenizer, opened).endswith("assistant: Anna")
    assert answer_space(tokenizer, opened) == answer_space(chatml, [USER]) == ""


def test_a_bos_that_the_text_carries_is_not_added_twice(llama3: Any) -> None:
    assert encode(llama3, f"{llama3.bos_token}Hello") == encode(llama3, "Hello")
