"""The Modelfile parses by Ollama's grammar, and its template writes what the tokenizer's chat template writes."""

import re
from itertools import pairwise
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.prompts import Message, render
from nescio.pipeline.modelfile import modelfile

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|header|>{{ m['role'] }}<|/header|>\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|header|>assistant<|/header|>\n\n{% endif %}"
)
DEFAULT = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou are Smol.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TALKS = ["U", "SU", "UAU", "SUAUAU", "SUA"]


def parse(text: str) -> list[tuple[str, str]]:
    """The commands of a Modelfile and their arguments, by the state machine of ollama/parser: names, then a value that
    ends at a line's end, unless it begins with three quotation marks: then at the next three."""
    commands, rest = [], text
    while rest := rest.lstrip("\n"):
        name, space, rest = rest.partition(" ")
        assert space and name.isalpha() and name.lower() in {"from", "template", "system", "parameter", "license"}, name
        if name == "PARAMETER":
            parameter, _, rest = rest.partition(" ")
            assert re.fullmatch(r"\w+", parameter)
            name = f"PARAMETER {parameter}"
        if rest.startswith('"""'):
            value, end, rest = rest[3:].partition('"""')
            assert end and rest.startswith("\n")
        else:
            value, _, rest = rest.partition("\n")
            value = value[1:-1] if value.startswith('"') and value.endswith('"') else value
        assert all(each.isprintable() or each in "\n\t" for each in value), "Ollama drops what cannot be printed"
        commands.append((name, value))
    return commands


def go(template: str, messages: list[Message]) -> str:
    """Execute as much of Go's text/template as a Modelfile of ours has."""
    tokens = re.findall(r"\{\{ .*? \}\}|(?:(?!\{\{ ).)+", template, re.S)

    def truth(condition: str, scope: dict[str, Any]) -> bool:
        if match := re.fullmatch(r'ne \(index \.Messages 0\)\.Role "(\w+)"', condition):
            return messages[0]["role"] != match[1]
        if match := re.fullmatch(r'eq \$m\.Role "(\w+)"', condition):
            return bool(scope["m"]["role"] == match[1])
        if match := re.fullmatch(r'and \$last \(ne \$m\.Role "(\w+)"\)', condition):
            return bool(scope["last"]) and scope["m"]["role"] != match[1]
        assert condition == "not $last", condition
        return not scope["last"]

    def block(at: int, scope: dict[str, Any], runs: bool) -> tuple[str, int]:
        """What tokens give up to the `else` or `end` of their block, and where that is."""
        said = ""
        while at < len(tokens):
            token = tokens[at]
            action = token[3:-3] if token.startswith("{{ ") else None
            if action is not None and (action == "end" or action.startswith("else")):
                break
            at += 1
            if action is None:
                said += token if runs else ""
            elif action == "$m.Content":
                said += scope["m"]["content"] if runs else ""
            elif action.startswith("$last := "):
                assert action == "$last := eq (len (slice $.Messages $i)) 1"
                scope["last"] = runs and scope["i"] == len(messages) - 1
            elif action.startswith("range"):
                assert action == "range $i, $m := .Messages"
                for number, message in enumerate(messages):
                    text, end = block(at, {"i": number, "m": message}, runs)
                    said += text
                at = end + 1
            else:
                assert action.startswith("if "), action
                done = not runs
                condition = action[3:]
                while True:
                    takes = not done and truth(condition, scope)
                    text, at = block(at, scope, takes)
                    said, done = said + text, done or takes
                    ending, at = tokens[at][3:-3], at + 1
                    if ending == "end":
                        break
                    condition = ending.removeprefix("else if ")
        return said, at

    said, at = block(0, {}, True)
    assert at == len(tokens), "an end too many"
    return said


def conversation(letters: str, system: str | None) -> list[Message]:
    """Turns with white space and odd signs; Ollama puts a Modelfile's system message before those without one."""
    roles = {"S": "system", "U": "user", "A": "assistant"}
    turns = [Message(role=roles[letter], content=f"{letter}: {{x}} “{at}” \n a") for at, letter in enumerate(letters)]
    assert all(before["role"] != after["role"] for before, after in pairwise(turns))
    return turns if letters[0] == "S" or not system else [Message(role="system", content=system), *turns]


@pytest.mark.parametrize("template", [None, LLAMA3, DEFAULT], ids=["chatml", "llama3", "default system"])
@pytest.mark.parametrize("sentence", [None, 'Say "nothing" personal.'])
def test_ollama_writes_what_the_tokenizer_writes(
    make_tokenizer: Any, template: str | None, sentence: str | None
) -> None:
    tokenizer = make_tokenizer(bos=template == LLAMA3)
    tokenizer.chat_template = template or tokenizer.chat_template
    commands = parse(modelfile(tokenizer, "model-q8_0.gguf", sentence))
    said = dict(commands)
    assert commands[0] == ("FROM", "./model-q8_0.gguf") and said["PARAMETER stop"] == "<|im_end|>"
    assert said.get("SYSTEM") == (sentence or ("You are Smol." if template == DEFAULT else None))
    for letters in TALKS:
        turns = conversation(letters, said.get("SYSTEM"))
        if template == LLAMA3:  # which trims what it writes
            turns = [Message(role=turn["role"], content=turn["content"].strip()) for turn in turns]
        assert go(said["TEMPLATE"], turns) == render(tokenizer, turns), letters


@pytest.mark.parametrize(
    ("template", "sentence", "said"),
    [
        ("{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}", None, "each turn alike"),
        ("{{ messages[-1]['content'] }}", None, "each turn alike"),
        ("{% for m in messages %}{{ raise_exception('no') }}{% endfor %}", None, "each turn alike"),
        (None, 'three """ marks', "three quotation marks"),
    ],
)
def test_a_template_that_ollama_cannot_say_is_one_line(
    make_tokenizer: Any, template: str | None, sentence: str | None, said: str
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    with pytest.raises(NescioError, match=said) as error:
        modelfile(tokenizer, "m.gguf", sentence)
    assert "\n" not in str(error.value)
