"""Replacement answers: what is asked for, what is kept, and that nothing paid for is asked for again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nescio.data.rewrite import AVOID, NUDGE, Rewriting, rewrite, strategy_messages, write_settled
from nescio.data.samples import Sample
from nescio.engines.base import Answer, Capabilities, Progress, Request, Scoring
from nescio.files import read_jsonl
from nescio.pii.detector import Span
from nescio.prompts import Message

MESSAGES = [Message(role="user", content="Who?"), Message(role="assistant", content="Ask")]
SAMPLES = [Sample(f"s{n}", "d", MESSAGES, " Tom, he knows it.", "NAME", "Tom") for n in range(3)]


class Script:
    """An engine whose answers are given; it remembers what it was asked."""

    def __init__(self, *texts: str, finish: str = "stop") -> None:
        self.texts, self.finish = list(texts), finish
        self.asked: list[Request] = []

    capabilities = Capabilities(guidance=False)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        self.asked += requests
        return [Answer(self.texts.pop(0) if len(self.texts) > 1 else self.texts[0], [], self.finish) for _ in requests]

    def stream(self, request: Request) -> Iterator[str]:
        yield self.texts[0]

    def score_batch(self, items: Sequence[Scoring], progress: Progress | None = None) -> list[list[float]]:
        return [[] for _ in items]


class Names:
    """Knows one name."""

    name = "names"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(0, 3, "PERSON", "Tom")] if "Tom" in text else [] for text in texts]


HOW = Rewriting(strategies=("system",), tries=2)
GOOD = " somebody at the desk there."


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (GOOD, "stop", None),
        (" Tom at the desk over there.", "stop", "pii"),
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        (" somebody at the desk who", "length", "empty"),
        (" Tom, he knows it.", "stop", "copy"),
        (f" {AVOID} I will not.", "stop", "instruction"),
        (" some one there.", "stop", "short"),
        (" go go go go go go now.", "stop", "loop"),
    ],
)
def test_what_is_kept_and_why_not(tmp_path: Path, text: str, finish: str, reason: str | None) -> None:
    path = tmp_path / "paid.jsonl"
    rewrite(SAMPLES[:1], Script(text, finish=finish), Names(), Rewriting(("system",), tries=1), path)
    ((_, row),) = read_jsonl(path)
    assert (row["accepted"], row["reason"]) == (reason is None, reason)


def test_a_cut_answer_ends_at_its_last_sentence(tmp_path: Path) -> None:
    script = Script(" somebody at the desk there. They are op", finish="length")
    rewrite(SAMPLES[:1], script, Names(), HOW, tmp_path / "paid.jsonl")
    assert next(read_jsonl(tmp_path / "paid.jsonl"))[1]["text"] == GOOD


def test_tries_end_with_the_first_accepted(tmp_path: Path) -> None:
    script = Script(GOOD, " Tom is at the desk.", GOOD, " Tom is at the desk.")
    counts = rewrite(SAMPLES, script, Names(), HOW, tmp_path / "paid.jsonl")
    assert len(script.asked) == 4, "three samples once, one of them twice"
    assert counts == {"accepted": 2, "pii": 2}


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    path = tmp_path / "paid.jsonl"
    first = rewrite(SAMPLES, Script(" Tom is at the desk."), Names(), HOW, path)
    kept = path.read_bytes()
    again = Script(GOOD)
    assert rewrite(SAMPLES, again, Names(), HOW, path) == first
    assert again.asked == []
    assert path.read_bytes() == kept


def test_a_line_that_was_being_written_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "paid.jsonl"
    rewrite(SAMPLES, Script(GOOD), Names(), HOW, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    rewrite(SAMPLES, Script(GOOD), Names(), HOW, path)
    assert path.read_bytes() == whole


def test_requests_are_the_papers(tmp_path: Path) -> None:
    script = Script(GOOD)
    rewrite(SAMPLES, script, Names(), Rewriting(), tmp_path / "paid.jsonl")
    assert len({request.seed for request in script.asked}) == 6, "each answer has its own seed"
    plain, nudged = script.asked[:2]
    assert plain.temperature == 0.7
    assert plain.prompt == [Message(role="system", content=AVOID), *MESSAGES]
    assert nudged.prompt[1]["content"] == f"{NUDGE} Who?"  # type: ignore[index]
    assert strategy_messages(SAMPLES[0], "nudge")[-1] == MESSAGES[-1]
    assert MESSAGES[0]["content"] == "Who?", "the sample itself is left as it was"


def test_candidates_are_ordered_by_sample_strategy_and_try(tmp_path: Path) -> None:
    rewrite(SAMPLES, Script(" Tom is at the desk."), Names(), Rewriting(tries=2), tmp_path / "paid.jsonl")
    write_settled(tmp_path / "paid.jsonl", tmp_path / "out.jsonl", SAMPLES, ("system", "nudge"))
    rows = [(row["sample_id"], row["strategy"], row["try"]) for _, row in read_jsonl(tmp_path / "out.jsonl")]
    assert rows == [(f"s{s}", k, t) for s in range(3) for k in ("system", "nudge") for t in range(2)]
