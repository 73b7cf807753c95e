"""The audit of requests: a detector reads what a caller sends before a model or an upstream does."""

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import replace
from itertools import chain, count
from typing import Any

from nescio.core.guidance import Guidance
from nescio.core.prompts import Message, after_sentence
from nescio.core.text import fold
from nescio.engines.base import Prompt, Request
from nescio.pii.base import Span
from nescio.pii.stand_ins import WORD, StandIns
from nescio.pii.taxonomy import PiiType
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker
from nescio.serve.errors import ApiError
from nescio.serve.json_filter import JsonFilter
from nescio.serve.openai_api.part import new_id

_SHORTEST = 5  # characters of a stand-in; a shorter one may stand in the answer by chance
_BATCH = 16  # texts that are read before others' may be, and before a hang-up is noticed
_PLAIN = re.compile(r"[ !#-\[\]-~]+")  # what JSON writes as it is
# Words of JSON Schema and of OpenAI's API, which say nothing; a detector takes some for names.
_KEYWORDS = {
    "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "array", "boolean", "const", "default", "description",
    "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "function", "integer", "items", "json_schema",
    "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "multipleOf", "null", "number", "object",
    "oneOf", "parameters", "pattern", "patternProperties", "prefixItems", "properties", "required", "schema", "strict",
    "string", "title", "type", "uniqueItems",
}  # fmt: skip


class OwnStandIns:
    """Stand-ins of one request, of which each stands for one piece and for nothing else that was written.

    Args:
        texts: What the caller wrote.

    Attributes:
        pieces: What the caller wrote, by stand-in.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.pieces: dict[str, str] = {}
        self._texts = "\n".join(texts)
        self._stand_ins = StandIns(secrets.token_bytes(32))  # a key of this request, which nobody can try out

    def of(self, kind: PiiType, piece: str) -> str:
        """Return the stand-in of a piece: a made-up one, or `[PERSON_1]` where that may stand for something else."""
        stand_in = self._stand_ins.of(kind, piece)
        if not self._is_free(stand_in, piece):
            known = (mark for mark, own in self.pieces.items() if own == piece and mark.startswith("["))
            marks = (f"[{kind.upper()}_{number}]" for number in count(1))
            stand_in = next(
                chain(known, (mark for mark in marks if mark not in self.pieces and mark not in self._texts))
            )
        self.pieces.setdefault(stand_in, piece)
        # An answer may say a part of a name only; words of people have stand-ins of their own.
        words = WORD.findall(piece), WORD.findall(stand_in)
        if kind == "person" and len(words[0]) == len(words[1]):
            for own, other in zip(*words, strict=True):
                if own != other and self._is_free(other, own):
                    self.pieces.setdefault(other, own)
        return stand_in

    def _is_free(self, stand_in: str, piece: str) -> bool:
        same = fold(self.pieces.get(stand_in, piece), ignore_case=True)[0] == fold(piece, ignore_case=True)[0]
        is_plain = bool(_PLAIN.fullmatch(stand_in)) and not stand_in.startswith("[")
        return same and is_plain and len(stand_in) >= _SHORTEST and stand_in not in self._texts


class RequestFilter:
    """Filter of one request, with all its choices.

    Args:
        new_checker: Makes what finds personal data and says what is done with it; `block` refuses the request.

    Attributes:
        pieces: What the caller wrote, by stand-in.
        found: Type, label and text of each piece that was found and not simply let through.
    """

    def __init__(self, new_checker: Callable[..., Checker]) -> None:
        self.pieces: Mapping[str, str] = {}
        self.found: Set[tuple[PiiType, str, str]] = frozenset()
        self._new_checker = new_checker

    def changed(self, requests: Sequence[Request], is_over: Callable[[], bool] = lambda: False) -> list[Request]:
        """Return requests as they may be sent.

        Args:
            requests: All choices.
            is_over: Whether nobody waits for an answer any more.

        Raises:
            ApiError: One holds what is blocked, or what has to be changed where nothing can be: in a tool's definition,
                a schema or a stop text. Or nobody waits any more.
            FilterError: The detector failed.
        """
        # 1) collect what is to be read
        notes = _Notes()
        self._sent(requests, Checker(notes, Audit()))
        texts = list(notes.texts)
        stand_ins = OwnStandIns(texts)
        checker = self._new_checker(stand_ins=stand_ins)
        # 2) read it
        for start in range(0, len(texts), _BATCH):
            checker.read(texts[start : start + _BATCH])
            if is_over():
                raise ApiError(503, "the request could not be checked in time, and was not sent", "audit_failed")
        self.found = {(span.type, span.label, span.text) for text in texts for span, _ in checker.find(text)}
        # 3) change it
        changed = self._sent(requests, checker)
        self.pieces = stand_ins.pieces
        return changed

    def _sent(self, requests: Sequence[Request], checker: Checker) -> list[Request]:
        done = dict[tuple[str, str], Prompt]()

        def prompt(given: Prompt | None, sentence: str | None) -> Prompt | None:
            if given is None:
                return None
            own = after_sentence(sentence, "")  # the operator's
            key = json.dumps(given), own
            if key not in done:  # all choices have the same prompt
                if isinstance(given, str):
                    text = given.removeprefix(own)
                    done[key] = given[: len(given) - len(text)] + self._text(checker, text)
                else:
                    done[key] = self._turns(checker, given)
            return done[key]

        first, sentences = requests[0], requests[0].guidance or Guidance()
        for name, fixed in (("tools", first.tools), ("response_format", first.response_format), ("stop", first.stop)):
            self._check_fixed(checker, name, _strings(fixed))
        return [
            replace(
                request,
                prompt=prompt(request.prompt, sentences.positive) or "",
                negative=prompt(request.negative, sentences.negative),
            )
            for request in requests
        ]

    def _turns(self, checker: Checker, given: Sequence[Message]) -> list[Message]:
        turns, ids = deepcopy(list(given)), defaultdict[str, str](new_id)  # a caller's ids may say anything
        for turn in turns:
            turn["content"] = self._text(checker, turn["content"])
            for call in turn.get("tool_calls", ()):
                self._check_fixed(checker, "messages", [call["function"]["name"]])
                call["id"] = ids[call["id"]]
                call["function"]["arguments"] = self._json(checker, call["function"]["arguments"])
            if "tool_call_id" in turn:
                turn["tool_call_id"] = ids[turn["tool_call_id"]]
        return turns

    def _check_fixed(self, checker: Checker, name: str, texts: Sequence[str]) -> None:
        """Check texts that can't be changed."""
        whole = "\n".join(texts)
        if self._text(checker, whole) != whole:
            kinds = ", ".join(sorted({span.type for span, action in checker.find(whole) if action != "count"}))
            raise _refused(f"{name}: holds", f"here nothing can be replaced ({kinds})")

    def _text(self, checker: Checker, text: str) -> str:
        shown, _, blocked = checker.changed(text, checker.find(text)) if text.strip() else (text, [], False)
        return _let_out(shown, blocked)

    def _json(self, checker: Checker, text: str) -> str:
        json_filter = JsonFilter(checker)
        checked = [*json_filter.feed(text), *json_filter.finish()]
        return _let_out("".join(each.text for each in checked), json_filter.blocked)


class _Notes:
    """A detector that finds nothing, and notes what it is asked to read."""

    name = "notes"

    def __init__(self) -> None:
        self.texts: dict[str, None] = {}

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        self.texts |= dict.fromkeys(texts)
        return [[] for _ in texts]


def _let_out(text: str, blocked: bool) -> str:
    if blocked:
        raise _refused("the request holds", "this key's policy does not let it out")
    return text


def _refused(where: str, why: str) -> ApiError:
    return ApiError(400, f"{where} personal data, and {why}; take it out", "personal_data")


def _strings(value: Any) -> list[str]:
    """Return all texts and numbers in JSON values, keys of objects too, without the keywords."""
    if isinstance(value, str):
        return [] if value in _KEYWORDS else [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [str(value).removesuffix(".0")]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for each in pair for text in _strings(each)]
    return [text for each in value for text in _strings(each)] if isinstance(value, list | tuple) else []
