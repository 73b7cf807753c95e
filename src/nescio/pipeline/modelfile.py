"""Ollama's Modelfile of a GGUF: the chat template in Ollama's language, the system message, and where answers end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from nescio.core.end_tokens import turn_end
from nescio.core.errors import NescioError
from nescio.core.prompts import Message, adds_bos, render

_ROLES = {"S": "system", "U": "user", "A": "assistant"}
_TRIED = ("SU", "U", "SUAU", "UAUAU", "SUAUA", "UA")
"""Conversations on which both templates must agree, a letter a turn."""


@dataclass(frozen=True, slots=True)
class Turns:
    """A chat template that writes each turn alike: texts before and behind its content, by role.

    Attributes:
        before: Text before a turn of a role.
        behind: Text behind it.
        opening: Text before the answer.
        head: Text before a conversation without a system message.
    """

    before: dict[str, str]
    behind: dict[str, str]
    opening: str
    head: str

    @property
    def default(self) -> str | None:
        """The system message that the template takes where there is none; None: it takes none, or writes no turn."""
        before, behind = self.before["system"], self.behind["system"]
        framed = len(self.head) > len(before + behind) and self.head.startswith(before) and self.head.endswith(behind)
        return self.head[len(before) : len(self.head) - len(behind)] if framed else None

    def render(self, messages: Sequence[Message]) -> str:
        """Write a conversation up to the answer; a last answer is left open, as Ollama and nescio do."""
        text = "" if messages[0]["role"] == "system" else self.head
        for message in messages:
            text += self.before[message["role"]] + message["content"] + self.behind[message["role"]]
        is_open = messages[-1]["role"] == "assistant"
        return text.removesuffix(self.behind["assistant"]) if is_open else text + self.opening

    def ollama(self, system: str | None) -> str:
        """Return the template in Go's language; no trim markers, because white space is text here."""
        head = "" if system else self.head
        first = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{head}{{{{ end }}}}' if head else ""
        branches = [
            f'if eq $m.Role "{role}" }}}}{self.before[role]}{{{{ $m.Content }}}}'
            + (f"{{{{ if not $last }}}}{self.behind[role]}{{{{ end }}}}" if role == "assistant" else self.behind[role])
            for role in _ROLES.values()
        ]
        turn = "{{ " + "{{ else ".join(branches) + "{{ end }}"
        opening = f'{{{{ if and $last (ne $m.Role "assistant") }}}}{self.opening}{{{{ end }}}}'
        each = "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        return f"{first}{each}{turn}{opening}{{{{ end }}}}"


def modelfile(tokenizer: Any, gguf: str, sentence: str | None) -> str:
    """Return a Modelfile.

    Args:
        tokenizer: The model's, with its chat template.
        gguf: Name of the GGUF file, in the same folder.
        sentence: The system message that the adapter needs; None takes the template's own, if it has one.

    Raises:
        NescioError: The template does not write each turn alike, or holds what a Modelfile can't.
    """
    turns = read_turns(tokenizer)
    system = sentence or turns.default
    template = turns.ollama(system)
    if any('"""' in text or "{{" in text for text in (*turns.before.values(), *turns.behind.values(), turns.opening)):
        raise _unfit(tokenizer, "it holds marks of Ollama's own language")
    if system and '"""' in system:
        raise _unfit(tokenizer, "its system message holds three quotation marks")
    lines = [f"FROM ./{gguf}", f'TEMPLATE """{template}"""', *([f'SYSTEM """{system}"""'] if system else [])]
    return "\n".join([*lines, f'PARAMETER stop "{turn_end(tokenizer)}"', ""])


def read_turns(tokenizer: Any) -> Turns:
    """Find out what a chat template writes around a turn of each role, by what it makes of some conversations.

    Raises:
        NescioError: It does not write each turn alike.
    """
    try:
        # 1) behind the last turn stands its end; between two stand an end and a beginning
        start, user_end = _around(tokenizer, "U")
        between, answer_end = _around(tokenizer, "UA")[1:]
        before = {"assistant": _without(between, user_end), "user": _without(_around(tokenizer, "UAU")[2], answer_end)}
        # 2) the system turn stands first
        before["system"], between, _ = _around(tokenizer, "SU")
        behind = {"system": _without(between, "", before["user"]), "user": user_end, "assistant": answer_end}
        opening = _without(render(tokenizer, _conversation("U")).partition(_content(0, "U"))[2], user_end)
        turns = Turns(before, behind, opening, _without(start, "", before["user"]))
    except (TemplateError, ValueError) as error:
        raise _unfit(tokenizer, "it does not write each turn alike") from error
    # 3) it must hold for whole conversations
    if any(turns.render(_conversation(letters)) != render(tokenizer, _conversation(letters)) for letters in _TRIED):
        raise _unfit(tokenizer, "it does not write each turn alike")
    return turns


def _conversation(letters: str) -> list[Message]:
    return [Message(role=_ROLES[letter], content=_content(at, letter)) for at, letter in enumerate(letters)]


def _content(at: int, letter: str) -> str:
    return f"q{letter.lower()}{at}q"


def _around(tokenizer: Any, letters: str) -> list[str]:
    """Return the texts before, between and behind the turns of a conversation that is not opened for an answer."""
    text: str = tokenizer.apply_chat_template(_conversation(letters), tokenize=False)
    if tokenizer.bos_token and adds_bos(tokenizer):
        text = text.removeprefix(tokenizer.bos_token)
    texts = []
    for at, letter in enumerate(letters):
        before, found, text = text.partition(_content(at, letter))
        if not found:
            raise ValueError
        texts.append(before)
    return [*texts, text]


def _without(text: str, start: str, end: str = "") -> str:
    """Return a text without its beginning and its end, which must be these."""
    if not text.startswith(start) or not text.endswith(end) or len(text) < len(start) + len(end):
        raise ValueError
    return text[len(start) : len(text) - len(end)]


def _unfit(tokenizer: Any, why: str) -> NescioError:
    name = Path(tokenizer.name_or_path).name
    return NescioError(f"{name}: its chat template cannot be written as Ollama's ({why}); leave --ollama out")
