"""Calls of tools in the forms that models write, read as they come."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.engines.base import ToolCall
from nescio.serve.call_reader import CallReader
from nescio.serve.tool_formats import TOOL_FORMATS, format_of

MAIL = ToolCall("mail", '{"to": "Zoë", "n": [1, {"deep": "}"}]}')
LOOK = ToolCall("look_up", "{}")

MAIL_AS = {key: f'{{"name": "mail", "{key}": {MAIL.arguments}}}' for key in ("arguments", "parameters")}
LOOK_AS = {key: f'{{"name": "look_up", "{key}": {{}}}}' for key in ("arguments", "parameters")}

# What a model writes, and what is text in it.
WRITTEN: dict[str, list[tuple[str, str]]] = {
    "hermes": [
        ("<tool_call>\n{mail}\n</tool_call>\n<tool_call>{look}</tool_call>", ""),
        ("Let me <see>.\n<tool_call>{mail}</tool_call><tool_call>{look}", "Let me <see>.\n"),
    ],
    "llama": [
        ("{mail_p}; {look_p}", ""),
        ("<|python_tag|>{mail}<|python_tag|>{look_p}", ""),
        ("Let me see. <|python_tag|>{mail_p};{look_p}", "Let me see. "),
    ],
    "mistral": [
        ("[TOOL_CALLS][{mail}, {look}]", ""),
        ("[TOOL_CALLS] [{mail}, {look}]", ""),
        ("Yes[[TOOL_CALLS]mail[ARGS]{to}[TOOL_CALLS]look_up[CALL_ID]a1b2c3d4e[ARGS]{none}", "Yes["),
        ("[TOOL_CALLS]mail{to}[TOOL_CALLS]look_up{none}", ""),
    ],
}
FILLED = {
    "mail": MAIL_AS["arguments"], "look": LOOK_AS["arguments"], "mail_p": MAIL_AS["parameters"],
    "look_p": LOOK_AS["parameters"], "to": MAIL.arguments, "none": "{}",
}  # fmt: skip
NO_CALLS = {
    "hermes": [
        "<tool_call>", "<tool_call>{}</tool_call>", "<tool_call>{</tool_call> x", "a < b <tool",
        "<tool_call>[1]</tool_call>", '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
        f"<tool_call>{MAIL_AS['arguments']}</tool_call> and so",
    ],
    "llama": [
        "{", "{}", "{ is a brace", '{"name": "mail"}', '{"name": "mail", "parameters": "x"}',
        "<|python_tag|>print(1)", '{"name": "rm", "parameters": {}}', "[" * 5000, '{"name": {"a": ' * 3000,
    ],
    "mistral": [
        "[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS][1]", "[TOOL_CALLS]mail", "[TOOL", "[TOOL_CALLS]" + "[" * 5000,
    ],
}  # fmt: skip
CASES = [(name, written.format(**FILLED), text) for name, cases in WRITTEN.items() for written, text in cases]


def read(name: str, chunks: list[str]) -> tuple[str, list[ToolCall]]:
    reader = CallReader(TOOL_FORMATS.get(name)(), {"mail", "look_up"})
    text = "".join(reader.feed(chunk) for chunk in chunks)
    rest, calls = reader.finish()
    return text + rest, calls


@pytest.mark.parametrize(("name", "written", "text"), CASES)
def test_calls_are_read_whatever_the_chunks(name: str, written: str, text: str) -> None:
    for chunks in ([written], list(written), [written[at : at + 7] for at in range(0, len(written), 7)]):
        assert read(name, chunks) == (text, [MAIL, LOOK])


@pytest.mark.parametrize(("name", "written"), [(name, each) for name, all_of in NO_CALLS.items() for each in all_of])
def test_what_is_no_call_is_text_to_the_letter(name: str, written: str) -> None:
    assert read(name, list(written)) == read(name, [written]) == (written, [])


PIECES = ["<tool_call>", "<", "{", "}", "[TOOL", "_CALLS]", " ", "a", "<|python_", "tag|>", '"']


@given(name=st.sampled_from(sorted(WRITTEN)), text=st.lists(st.sampled_from(PIECES)).map("".join))
def test_no_letter_is_lost(name: str, text: str) -> None:
    said, calls = read(name, list(text))
    assert (said, calls) == (text, [])


def test_text_before_a_call_is_not_held() -> None:
    reader = CallReader(TOOL_FORMATS.get("hermes")(), {"mail"})
    assert reader.feed("Let me see. <t") == "Let me see. "
    assert reader.feed("able>") == "<table>"


TEMPLATES = {
    "hermes": "return a json object within <tool_call></tool_call> XML tags",
    "llama": 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
    "mistral": "{{- '[TOOL_CALLS][' }}",
}


def test_the_chat_template_tells_the_form() -> None:
    for name, template in TEMPLATES.items():
        assert type(format_of(template)) is TOOL_FORMATS.get(name)
    assert format_of("{{ messages }}") is None


def test_arguments_are_json() -> None:
    for form, written, _ in CASES:
        assert all(isinstance(json.loads(call.arguments), dict) for call in read(form, [written])[1])
