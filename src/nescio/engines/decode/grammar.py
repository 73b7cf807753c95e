"""Constrained decoding: the tokens that may come next if an answer is to match a JSON schema (llguidance)."""

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.extras import require
from nescio.engines.errors import FieldError

STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": True}
"""llguidance's options: no free white space, as small models would write nothing else, and `oneOf` read as `anyOf`."""


class Matcher:
    """The place of one answer in its grammar.

    Args:
        matcher: llguidance's `LLMatcher`.
        field: The request's field that holds the schema.
    """

    def __init__(self, matcher: Any, field: str) -> None:
        self._matcher = matcher
        self._field = field

    def allowed(self, width: int) -> Tensor:
        """Return which of the tokens may come next, `[width]` on the CPU: the end tokens where the JSON is whole."""
        mask = torch.zeros(width, dtype=torch.bool)
        told = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8)[:width]
        mask[: len(told)] = told > 0
        return mask

    def try_first(self) -> None:
        """Take a first token and go back: what is too big for the library shows here.

        Raises:
            FieldError: The library gives up.
        """
        first = next((token for token, bias in enumerate(self._matcher.compute_logit_bias()) if bias), 0)
        Matcher(self._matcher.deep_copy(), self._field).take(first)

    def take(self, token: int) -> None:
        """Go on by a token.

        Raises:
            FieldError: The library gave up on the grammar.
        """
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            message = f"the schema can't be followed any further: {_line(self._matcher.get_error())}"
            raise FieldError(message, self._field)


class Grammars:
    """The grammars of one tokenizer, which is read for them at the first use (seconds).

    Args:
        tokenizer: A fast tokenizer of Transformers.
        end_ids: Tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, end_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._end_ids = sorted(end_ids)
        self._lock = threading.Lock()
        self._vocabulary: Any = None

    def matcher(self, schema: Mapping[str, Any], field: str = "response_format") -> Matcher:
        """Return a matcher at the beginning of an answer that matches a JSON schema.

        Args:
            schema: The schema.
            field: The request's field that holds it.

        Raises:
            NescioError: The library is missing, or the schema is wrong or has what the library lacks.
        """
        llguidance = require("llguidance", "structured", "an answer that matches a schema")
        with self._lock:
            if self._vocabulary is None:
                hf = require("llguidance.hf", "structured", "an answer that matches a schema")
                try:
                    self._vocabulary = hf.from_tokenizer(self._tokenizer, eos_token=self._end_ids)
                except Exception as error:  # of a tokenizer that the library can't read
                    raise NescioError(f"this model's tokenizer takes no schemas ({_line(str(error))})") from error
        try:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=STYLE)
        except ValueError as error:
            raise NescioError(f"the schema is refused: {_line(str(error))}") from error
        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise NescioError(f"the schema is refused: {_line(matcher.get_error())}")
        begun = Matcher(matcher, field)
        begun.try_first()
        return begun


def _line(message: str) -> str:
    return " ".join(message.partition("<state>")[0].split())[:300]
