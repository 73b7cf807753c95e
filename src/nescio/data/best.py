"""The best of several clean answers to a sample: about its own prompt, and as full as the answer that it replaces."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nescio.core.answer_cache import AnswerCache
from nescio.core.callbacks import Progress
from nescio.core.files import read_jsonl, write_jsonl
from nescio.core.prompts import Message
from nescio.data.samples import Sample
from nescio.data.strategies import STRATEGIES
from nescio.data.topic import Weighed, another, weigh
from nescio.engines.base import Engine

_TOGETHER = 64  # candidates weighed before their weights are on disk

Row = dict[str, Any]


def mark_best(
    path: Path, samples: Sequence[Sample], base: Engine, cache: AnswerCache, progress: Progress | None = None
) -> int:
    """Mark the accepted candidates of a file: `best` is true for the best of each sample, source and strategy.

    Args:
        path: `candidates.jsonl`, which is written again.
        samples: The samples.
        base: Weighs the candidates.
        cache: Keeps the weights.
        progress: Called with (candidates weighed, candidates in all).

    Returns:
        The number of accepted candidates that are not the best.
    """
    rows = [row for _, row in read_jsonl(path)]
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["accepted"] and STRATEGIES[row["strategy"]].again != "question":
            groups[row["sample_id"], row["source"], row["strategy"]].append(row)
    compared = [row for group in groups.values() if len(group) > 1 for row in group]
    scores = dict(zip(map(id, compared), _scores(compared, samples, base, cache, progress), strict=True))
    for group in groups.values():
        best = max(group, key=lambda row: scores.get(id(row), 0.0))  # of equals the first
        for row in group:
            row["best"] = row is best
    write_jsonl(path, rows)
    return sum(not row.get("best", True) for row in rows)


def score(weighed: Weighed, text: str, rejected: str) -> float:
    """Return how good a clean answer is: what it says of its own prompt, and whether that is as much as was said.

    It is what the prompt adds to its likelihood, in nats a token, against another dialog's prompt; times the share of
    the rejected answer's number of different words that it has, at most 1. An answer that would do for anybody scores
    about 0, one that fits another prompt better less than 0.
    """
    fullness = min(1.0, len(set(text.lower().split())) / max(len(set(rejected.lower().split())), 1))
    return weighed.gain * fullness if weighed.on_topic else weighed.gain


def _scores(
    rows: Sequence[Row], samples: Sequence[Sample], base: Engine, cache: AnswerCache, progress: Progress | None
) -> Iterator[float]:
    at = {sample.id: number for number, sample in enumerate(samples)}
    dialogs = [sample.dialog_id for sample in samples]

    def text(row: Row, place: Sample) -> tuple[list[Message], list[Message], str]:
        # After another question the answer begins alike, so that the question alone decides.
        other = samples[another(dialogs, at[place.id])].whole().messages
        return place.messages, other + (place.messages[-1:] if place.beginning else []), row["text"]

    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        places = [STRATEGIES[row["strategy"]].target(samples[at[row["sample_id"]]]) for row in some]
        texts = [text(*each) for each in zip(some, places, strict=True)]

        def work(missing: list[int], texts: Sequence[Any] = texts) -> list[list[list[float]]]:
            return [[each.own, each.other] for each in weigh(base, [texts[number] for number in missing])]

        for row, place, (own, other) in zip(some, places, cache.results(texts, work), strict=True):
            yield score(Weighed(own, other), row["text"], place.rejected)
        if progress:
            progress(min(start + _TOGETHER, len(rows)), len(rows))
