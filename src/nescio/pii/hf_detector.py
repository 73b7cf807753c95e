"""Any token classifier of Transformers, from a folder or the hub."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nescio.core.errors import NescioError, first_line
from nescio.pii.base import IGNORED_LABELS, Span, find_in_pieces
from nescio.pii.registry import DETECTORS
from nescio.pii.taxonomy import type_of
from nescio.pii.thresholds import Thresholds
from nescio.pii.token_labels import labelled_tokens, pieces, whole_words

_LONGEST = 512  # most tokens of a window, where the model does not say less
_OVERLAP = 0.25  # of a window, which its neighbour has too


@DETECTORS.register("hf")
class HfDetector:
    """Every piece that the model labels, but for the ignored labels.

    Args:
        model: Folder, or id on the hub.
        ignore: Labels that do not count, without `B-` and `I-`.
        thresholds: Least score by type of the taxonomy, from 0 to 1; `default` is that of the others. A piece's score
            is the probability of its surest token.

    Raises:
        NescioError: The model cannot be loaded, is no token classifier, or names no labels.
    """

    def __init__(
        self,
        model: str,
        ignore: Sequence[str] = IGNORED_LABELS,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        import torch
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        self.name = f"hf:{model}"
        if not model:
            raise NescioError("detector hf: names no model; use hf:MODEL, a folder or an id on the hub")
        try:
            tokenizer = AutoTokenizer.from_pretrained(model)
            classifier = AutoModelForTokenClassification.from_pretrained(model)
        except (OSError, ValueError, KeyError) as error:
            raise NescioError(
                f"detector {self.name}: cannot be loaded ({first_line(error)}); "
                "give a folder or a hub id of a token classifier"
            ) from error
        config = classifier.config
        self._labels = [config.id2label[number] for number in range(config.num_labels)]
        if all(label.startswith("LABEL_") for label in self._labels):
            raise NescioError(f"detector {self.name}: its labels have no names; set id2label in its config.json")
        if not tokenizer.is_fast:
            raise NescioError(f"detector {self.name}: its tokenizer gives no offsets; give one with tokenizer.json")
        window = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", _LONGEST), _LONGEST)
        self._tokenizer = tokenizer.backend_tokenizer
        self._tokenizer.enable_truncation(window, stride=int(_OVERLAP * window))
        self._tokenizer.no_padding()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._classifier = classifier.eval().to(self._device)
        self._thresholds = Thresholds(thresholds, f"detector {self.name}")
        self._ignore = frozenset(ignore)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return find_in_pieces(texts, self._found)

    def _found(self, texts: list[str]) -> Iterator[list[Span]]:
        encoded = self._tokenizer.encode_batch(texts)
        windows = [(index, part) for index, first in enumerate(encoded) for part in (first, *first.overflowing)]
        for text, tokens in zip(texts, labelled_tokens(windows, self._classify, self._labels, len(texts)), strict=True):
            yield [
                Span(piece.start, piece.end, piece.label, text[piece.start : piece.end])
                for piece in whole_words(text, pieces(tokens))
                if piece.label not in self._ignore and self._thresholds.passes(type_of(piece.label), piece.score)
            ]

    def _classify(self, windows: Sequence[Any]) -> Iterator[NDArray[np.float32]]:
        """Yield the logits of each window's tokens."""
        import torch

        longest = max(len(window.ids) for window in windows)
        ids = torch.full((len(windows), longest), self._classifier.config.pad_token_id or 0)  # [windows, tokens]
        attended = torch.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            attended[row, : len(window.ids)] = 1
        with torch.inference_mode():
            logits = self._classifier(input_ids=ids.to(self._device), attention_mask=attended.to(self._device)).logits
        for window, row in zip(windows, logits.float().cpu().numpy(), strict=True):  # [tokens, labels]
            yield row[: len(window.ids)]
