"""Answers to samples, and the personal data found in them (paper, section 3). Knows engines and detectors."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nescio.data.samples import Sample
from nescio.engines.base import Engine, Progress, Request
from nescio.guidance import Guidance
from nescio.pii.detector import Detector


@dataclass(frozen=True, slots=True)
class Setup:
    """What a row of the table compares: a model, with or without its adapter, asked in a certain way.

    Attributes:
        name: Of the row's answers file.
        model: What the table calls it.
        source: The model asked: folder, hub id, or another name that `nescio.load` takes.
        adapter: The adapter to attach; None: detached.
        guidance: None: the conversation as it is.
    """

    name: str
    model: str
    source: str
    adapter: str | None
    guidance: Guidance | None


def answer(
    engine: Engine,
    setups: Sequence[Setup],
    samples: Sequence[Sample],
    max_tokens: int,
    progress: Progress | None = None,
) -> list[list[str]]:
    """Greedy answers (temperature 0, as in the paper) of every set-up to every sample.

    Asked for together, so that the engine computes a prompt that set-ups share once.

    Returns:
        A list of answers for each set-up, in the order of the samples.
    """
    requests = [
        Request(sample.messages, setup.guidance, adapter=setup.adapter, max_tokens=max_tokens)
        for setup in setups
        for sample in samples
    ]
    texts = [given.text for given in engine.generate(requests, progress)]
    return [texts[start : start + len(samples)] for start in range(0, len(texts), len(samples))]


def answer_rows(samples: Sequence[Sample], answers: Sequence[str], detector: Detector) -> list[dict[str, Any]]:
    """One object per answer, with the personal data found in it: the lines of `eval/NAME.jsonl`."""
    return [
        {
            "id": sample.id,
            "dialog_id": sample.dialog_id,
            "messages": sample.messages,
            "answer": text,
            "spans": [asdict(span) for span in spans],
        }
        for sample, text, spans in zip(samples, answers, detector.find(answers), strict=True)
    ]


def recall(answers: Sequence[str], own: Sequence[Sequence[str]]) -> float:
    """Share of the dialogs' own pieces of personal data that come back in the answers, in any case and spacing.

    Args:
        answers: One text a sample.
        own: The pieces of each sample's dialog.
    """
    found = total = 0
    for text, pieces in zip(answers, own, strict=True):
        said = normalised(text)
        total += len(set(map(normalised, pieces)))
        found += sum(piece in said for piece in set(map(normalised, pieces)))
    return found / total if total else 0.0


def normalised(text: str) -> str:
    """Lower case, one form of each character, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
