"""Replacement answers without personal data, from an engine, kept or not by the detector (paper, section 2.2).

Every answer is on the disk before it is used; a job that was cut off goes on without asking again. Knows samples,
engines and detectors; nothing of training.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nescio.data.samples import Sample
from nescio.engines.base import Answer, Engine, Request
from nescio.files import append_jsonl, read_appended, write_jsonl
from nescio.pii.detector import Detector
from nescio.prompts import Message, with_sentence
from nescio.text import FEWEST_WORDS, loops, whole_sentences

AVOID = "Avoid using any personal data in the answers!"
NUDGE = (
    "(Do not use any personal data, e.g. names, locations or any other personal data in your answer even if it was "
    "used in the dialog)"
)
Strategy = Literal["system", "nudge"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""The paper's two ways in completion mode: its system prompt alone, and with the nudge before the last user message."""

_BATCH = 96


@dataclass(frozen=True, slots=True)
class Rewriting:
    """How replacement answers are asked for.

    Attributes:
        strategies: Of `STRATEGIES`, each tried for each sample.
        temperature: Of sampling; 0.7 in the paper.
        max_tokens: Most tokens of an answer; a longer one ends at its last whole sentence.
        tries: Most answers asked for per sample and strategy until one is accepted.
        seed: Every answer's own seed is derived from this, the sample, the strategy and the try.
    """

    strategies: tuple[Strategy, ...] = STRATEGIES
    temperature: float = 0.7
    max_tokens: int = 128
    tries: int = 3
    seed: int = 0


def rewrite(
    samples: Sequence[Sample],
    engine: Engine,
    detector: Detector,
    how: Rewriting,
    path: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> Counter[str]:
    """Ask for replacement answers until each sample and strategy has one, or its tries are used up.

    Args:
        samples: What to answer anew.
        engine: The source of the answers.
        detector: Decides whether an answer is clean.
        how: Strategies, temperature, tries.
        path: `candidates.jsonl`; answers that stand in it already are not asked for again.
        progress: Called with tries done, tries at most, and a word on how many were kept.

    Returns:
        How many answers were accepted, and rejected by reason.
    """
    rows = read_appended(path)
    counts: Counter[str] = Counter()
    settled: set[tuple[str, str]] = set()
    for attempt in range(how.tries):
        known = {(row["sample_id"], row["strategy"]): row for row in rows if row["try"] == attempt}
        jobs = [(s, strategy) for s in samples for strategy in how.strategies if (s.id, strategy) not in settled]
        for start in range(0, len(jobs), _BATCH):
            batch = jobs[start : start + _BATCH]
            # A batch that was cut off is asked for whole: its answers depend, in their last digits, on each other.
            if any((sample.id, strategy) not in known for sample, strategy in batch):
                fresh = _ask(batch, attempt, engine, detector, how)
                append_jsonl(path, [row for row in fresh if (row["sample_id"], row["strategy"]) not in known])
                known |= {(row["sample_id"], row["strategy"]): row for row in fresh}
            for sample, strategy in batch:
                row = known[sample.id, strategy]
                counts["accepted" if row["accepted"] else row["reason"]] += 1
                if row["accepted"]:
                    settled.add((sample.id, strategy))
            if progress:
                left = len(jobs) - start - len(batch) + (len(jobs) - counts["accepted"]) * (how.tries - attempt - 1)
                progress(counts.total(), counts.total() + max(left, 0), f"{counts['accepted']} kept")
    return counts


def _ask(
    jobs: Sequence[tuple[Sample, str]], attempt: int, engine: Engine, detector: Detector, how: Rewriting
) -> list[dict[str, Any]]:
    requests = [
        Request(
            strategy_messages(sample, strategy),
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            seed=zlib.crc32(f"{how.seed}/{sample.id}/{strategy}/{attempt}".encode()),
        )
        for sample, strategy in jobs
    ]
    texts = [_ended(answer) for answer in engine.generate(requests)]
    texts = [
        text if sample.messages[-1]["role"] == "assistant" else text.lstrip()
        for text, (sample, _) in zip(texts, jobs, strict=True)
    ]
    rows = []
    for (sample, strategy), text, spans in zip(jobs, texts, detector.find(texts), strict=True):
        reason = _fault(text, sample) or ("pii" if spans else "")
        rows.append(
            {
                "sample_id": sample.id,
                "strategy": strategy,
                "try": attempt,
                "text": text,
                "accepted": not reason,
                "reason": reason or None,
                "pii": [span.text for span in spans],
            }
        )
    return rows


def strategy_messages(sample: Sample, strategy: str) -> list[Message]:
    """The conversation a source is asked with."""
    return with_sentence(nudged(sample.messages) if strategy == "nudge" else sample.messages, AVOID)


def nudged(messages: Sequence[Message]) -> list[Message]:
    """A conversation with the nudge before its last user message."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "user")
    asked = Message(role="user", content=f"{NUDGE} {messages[last]['content']}")
    return [*messages[:last], asked, *messages[last + 1 :]]


def _ended(answer: Answer) -> str:
    """The answer's text; one that ran into the token limit is cut after its last whole sentence (or is empty)."""
    text = answer.text.rstrip()
    return whole_sentences(text) if answer.finish == "length" else text


def _fault(text: str, sample: Sample) -> str:
    """Why an answer can't be a chosen one, whatever the detector says; empty if it can."""
    if not text.strip():
        return "empty"
    if text.strip() == sample.rejected.strip():
        return "copy"
    if AVOID[:-1] in text or "Do not use any personal data" in text:
        return "instruction"
    if len(text.split()) < FEWEST_WORDS:
        return "short"
    return "loop" if loops(text) else ""


def write_settled(path: Path, out: Path, samples: Sequence[Sample], strategies: Sequence[str]) -> int:
    """Write the candidates in the order of samples, strategies and tries, whatever order they were paid in."""
    order = {(s.id, name): (i, j) for i, s in enumerate(samples) for j, name in enumerate(strategies)}
    rows = sorted(read_appended(path), key=lambda row: (*order[(row["sample_id"], row["strategy"])], row["try"]))
    return write_jsonl(out, rows)
