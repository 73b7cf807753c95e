"""Replacement answers: what is asked for, what is kept, and that nothing paid for is asked for again."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_jsonl, write_jsonl
from nescio.core.prompts import Message
from nescio.data.rewrite import Rewriting, Source, rewrite
from nescio.data.samples import Sample
from nescio.data.strategies import AVOID
from nescio.data.tally import Tally
from nescio.engines.base import Answer, Capabilities, Request, UnansweredError
from nescio.pii.base import Span

MESSAGES = [Message(role="user", content="Who?"), Message(role="assistant", content="Ask")]
SAMPLES = [Sample(f"s{n}", f"d{n}", MESSAGES, " Tom, he knows it.", "NAME", "Tom") for n in range(3)]
GOOD, BAD = " somebody at the desk there.", " Tom is at the desk."


class Script:
    """An engine whose answers are given; it remembers what it was asked."""

    capabilities = Capabilities()

    def __init__(self, *texts: str, finish: str = "stop") -> None:
        self.texts, self.finish = list(texts), finish
        self.asked: list[Request] = []
        self.calls = 0
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        with self._lock:
            self.asked += requests
            self.calls += 1
            return [self._answer() for _ in requests]

    def _answer(self) -> Answer:
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        if not text:
            raise UnansweredError("the line is dead")
        return Answer(text, [1, 2], self.finish, prompt_tokens=10)


class Names:
    """Knows one name."""

    name = "names"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        places = [text.find("Tom") for text in texts]
        return [[Span(at, at + 3, "PERSON", "Tom")] if at >= 0 else [] for at in places]


def source(script: Any, **changes: Any) -> Source:
    return Source(
        **{"name": "base", "engine": script, "model": "m", "identity": "m", "strategies": ("system",)} | changes
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[list[Tally], list[dict[str, Any]]]]:
    """Rewrite in the test's folder: the accounts and the candidates."""

    def rewritten(*sources: Source, samples: Sequence[Sample] = SAMPLES, tries: int = 2, best_of: int = 1) -> Any:
        how = Rewriting(tries=tries, best_of=best_of)
        tallies = rewrite(samples, sources, Names(), how, tmp_path, tmp_path / "paid.jsonl")
        return tallies, [row for _, row in read_jsonl(tmp_path / "candidates.jsonl")]

    return rewritten


def test_tries_end_with_the_first_accepted(run: Any) -> None:
    script = Script(GOOD, BAD, GOOD, BAD)
    (tally,), rows = run(source(script))
    assert len(script.asked) == 4, "three samples once, one of them twice"
    assert (tally.accepted, dict(tally.rejected)) == (2, {"pii": 2})
    assert [(row["sample_id"], row["try"], row["accepted"]) for row in rows] == [
        ("s0", 0, True), ("s1", 0, False), ("s1", 1, False), ("s2", 0, True),
    ]  # fmt: skip


def test_tries_end_with_as_many_accepted_as_the_best_is_chosen_of(run: Any) -> None:
    script = Script(GOOD, BAD, GOOD, *[GOOD] * 2, BAD, BAD)
    (tally,), rows = run(source(script), tries=4, best_of=2)
    assert (tally.accepted, dict(tally.rejected)) == (4, {"pii": 6})
    tries = {name: [row["accepted"] for row in rows if row["sample_id"] == name] for name in ("s0", "s1", "s2")}
    assert tries == {"s0": [True, True], "s1": [False, True, False, False], "s2": [True, False, False, False]}


def test_nothing_is_asked_twice(run: Any, tmp_path: Path) -> None:
    first = run(source(Script(BAD)))
    kept = (tmp_path / "paid.jsonl").read_bytes()
    again = Script(GOOD)
    assert run(source(again)) == first
    assert again.asked == []
    assert (tmp_path / "paid.jsonl").read_bytes() == kept


def test_more_tries_ask_only_for_what_is_missing(run: Any) -> None:
    run(source(Script(BAD)), tries=1)
    more = Script(GOOD)
    (tally,), _ = run(source(more), tries=2)
    assert len(more.asked) == 3
    assert (tally.calls, tally.accepted) == (6, 3)


@pytest.mark.parametrize("change", [{"identity": "another"}, {"temperature": 0.2}])
def test_another_question_is_asked(run: Any, change: dict[str, Any]) -> None:
    run(source(Script(GOOD)))
    again = Script(GOOD)
    run(source(again, **change))
    assert len(again.asked) == 3


def test_a_line_that_was_being_written_is_asked_for_again(run: Any, tmp_path: Path) -> None:
    run(source(Script(GOOD)))
    whole = (tmp_path / "paid.jsonl").read_bytes()
    (tmp_path / "paid.jsonl").write_bytes(whole[:-20])
    again = Script(GOOD)
    run(source(again))
    assert len(again.asked) == 3, "a local engine's batch is asked for whole"
    assert (tmp_path / "paid.jsonl").read_bytes() == whole


def test_requests_are_the_papers(run: Any) -> None:
    script = Script(GOOD)
    run(source(script, strategies=("system", "nudge")))
    assert len({request.seed for request in script.asked}) == 6, "each answer has its own seed"
    assert {request.temperature for request in script.asked} == {0.7}
    assert script.asked[0].prompt == [Message(role="system", content=AVOID), *MESSAGES]
    assert MESSAGES[0]["content"] == "Who?", "the sample itself is left as it was"


def test_sources_and_ways_stand_in_order(run: Any) -> None:
    sources = (source(Script(BAD), strategies=("system", "nudge")), source(Script(GOOD), name="other", identity="o"))
    tallies, rows = run(*sources)
    assert [(row["sample_id"], row["source"], row["strategy"], row["try"]) for row in rows] == [
        (sample.id, *which)
        for sample in SAMPLES
        for which in (
            ("base", "system", 0), ("base", "system", 1), ("base", "nudge", 0), ("base", "nudge", 1),
            ("other", "system", 0),
        )
    ]  # fmt: skip
    assert [(tally.source, tally.calls, tally.accepted) for tally in tallies] == [("base", 12, 0), ("other", 3, 3)]


def test_calls_and_requests_in_a_call(run: Any) -> None:
    script = Script(GOOD)
    run(source(script, together=2, concurrency=2))
    assert script.calls == 2
    assert len(script.asked) == 3


def test_a_share_is_drawn_by_seed_and_source(run: Any) -> None:
    samples = [Sample(f"s{n}", f"d{n}", MESSAGES, " Tom.", "NAME", "Tom") for n in range(400)]
    drawn = []
    for name in ("one", "two", "one"):
        _, rows = run(source(Script(GOOD), name=name, share=0.25), samples=samples, tries=1)
        drawn.append({row["sample_id"] for row in rows})
    assert all(60 < len(ids) < 140 for ids in drawn)
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_budget_ends_the_asking_and_what_was_not_asked_is_told(run: Any) -> None:
    script = Script(GOOD)
    (tally,), rows = run(source(script, together=1, budget=13))
    assert (len(script.asked), len(rows), tally.unasked) == (2, 2, 1), "12 tokens an answer: the second passes it"
    again = Script(GOOD)
    (tally,), rows = run(source(again, together=1, budget=25))
    assert (len(again.asked), len(rows), tally.unasked) == (1, 3, 0), "what was paid before counts too"


def test_what_got_no_answer_is_asked_again_and_listed_in_the_end(run: Any, tmp_path: Path) -> None:
    script = Script("", GOOD, "", GOOD, "", GOOD)
    (tally,), rows = run(source(script, together=1), samples=SAMPLES)
    assert [row["sample_id"] for row in rows] == ["s0", "s1"]
    assert (tally.accepted, tally.failed, tally.unasked) == (2, 1, 0)
    ((_, failed),) = read_jsonl(tmp_path / "failed.jsonl")
    assert (failed["sample_id"], failed["try"], failed["error"]) == ("s2", 1, "the line is dead")


def test_many_failures_in_a_row_end_the_job_and_keep_what_came(run: Any) -> None:
    with pytest.raises(NescioError, match=r"source base: 3 requests in a row got no answer.*the line is dead"):
        run(source(Script(GOOD, ""), together=1), samples=[*SAMPLES, *_more(9)])
    again = Script(GOOD)
    run(source(again, together=1), samples=[*SAMPLES, *_more(9)])
    assert len(again.asked) == 11


def _more(count: int) -> list[Sample]:
    return [Sample(f"m{n}", f"m{n}", MESSAGES, " Tom.", "NAME", "Tom") for n in range(count)]


def test_the_account_is_written_and_shown(run: Any) -> None:
    (tally,), _ = run(source(Script(GOOD, BAD, GOOD), price=(1000.0, 2000.0)))
    assert tally.as_row() == {
        "source": "base", "model": "m", "calls": 4, "prompt_tokens": 40, "answer_tokens": 8, "accepted": 3,
        "accept_rate": 0.75, "rejected": {"pii": 1}, "thoughts": 0, "failed": 0, "unasked": 0, "dollars": 0.056,
    }  # fmt: skip
    assert tally.line() == "base: 4 calls, 75% kept, 48 tokens, $0.06"
    assert tally.report() == f"{tally.line()}; rejected: 1 pii"


def test_a_thought_is_removed_counted_and_said(run: Any) -> None:
    script = Script(f"<think>Tom? No.</think>\n{GOOD}", "Tom must not be named.</think> somebody at the desk there.")
    (tally,), rows = run(source(script))
    assert {row["text"] for row in rows} == {GOOD} and all(row["accepted"] for row in rows)
    assert tally.thoughts == tally.as_row()["thoughts"] == 3
    assert tally.report().endswith("3 with a thought, which was removed")


class Today:
    """A tokenizer whose template renders the date."""

    name_or_path, bos_token, eos_token = "today", None, "<end>"
    chat_template = "dated"
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012

    def __init__(self, date: str) -> None:
        self.date = date

    def apply_chat_template(self, messages: Sequence[Message], **options: Any) -> str:
        said = "".join(f"<{message['role']}>{message['content']}<end>" for message in messages)
        return f"Today is {self.date}.{said}" + "<assistant>" * bool(options.get("add_generation_prompt"))


def test_tomorrow_nothing_is_asked_again_though_the_template_renders_the_date(run: Any) -> None:
    for date, asked in (("28 Nov 2026", 3), ("29 Nov 2026", 0)):
        script = Script(GOOD)
        run(source(script, tokenizer=Today(date)))
        assert len(script.asked) == asked
        assert all(date in str(request.prompt) for request in script.asked)


def test_answers_under_the_keys_of_0_1_0_are_found(run: Any, tmp_path: Path) -> None:
    script, tokenizer = Script(GOOD), Today("28 Nov 2026")
    run(source(script, tokenizer=tokenizer), tries=1)
    rows = [row for _, row in read_jsonl(tmp_path / "paid.jsonl")]
    for row, request in zip(rows, script.asked, strict=True):  # as 0.1.0 computed it
        row["key"] = fingerprint(["m", request.prompt, 128, 0.7, request.seed])
    write_jsonl(tmp_path / "paid.jsonl", rows)
    again = Script(GOOD)
    run(source(again, tokenizer=tokenizer), tries=1)
    assert again.asked == []
