"""What a table keeps on the disk, when it asks again, and what its rows are made of."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.data.samples import Sample
from nescio.engines.base import Engine, Request
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation import run as run_of_measures
from nescio.evaluation.base import Ask, Found, Measure, Task, generate
from nescio.evaluation.columns import Column
from nescio.evaluation.measures import slot_attack
from nescio.evaluation.one_engine import OneEngine
from nescio.evaluation.run import answer_rows, evaluate, open_measure
from nescio.evaluation.setups import Setup
from nescio.pii.base import Span

MEASURES: list[tuple[str, dict[str, Any]]] = [
    ("leakage", {}), ("leakage_asked_for", {"samples": 1}), ("fluency", {}), ("filler", {}), ("choices", {"count": 1}),
    ("leak_at_k", {"draws": 2, "samples": 2}), ("slot_attack", {"samples": 3}),
    ("harmless", {"prompts": 2}), ("quality", {}),
]  # fmt: skip

Results = tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All that engines are asked, in order: their requests and what they score."""
    seen: list[Any] = []
    for name in ("generate", "score_batch"):
        own = getattr(TorchEngine, name)

        def telling(engine: TorchEngine, items: Sequence[Any], *more: Any, own: Any = own) -> Any:
            seen.extend(items)
            return own(engine, items, *more)

        monkeypatch.setattr(TorchEngine, name, telling)
    return seen


@pytest.fixture
def run(make_task: Callable[..., Task], tiny_folder: Path) -> Callable[..., Results]:
    """Evaluate the tuned model, plainly and guided at each scale, by every measure that needs no judge."""

    def table(kept: Path, scales: Sequence[float], names: Sequence[str] = (), **more: Any) -> Results:
        tuned = Setup("tuned", "tuned", str(tiny_folder))
        guided = [replace(tuned, name=f"x-{s:g}", guidance=Guidance(s, "prob", PROTECT, REVEAL)) for s in scales]
        measures = [open_measure(name, **options) for name, options in MEASURES if not names or name in names]
        return evaluate(make_task(tiny_folder, kept, **{"setups": [tuned, *guided]} | more), measures)

    return table


def near(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose likelihoods may differ in their last digits: what shares a batch decides them."""
    return row | {name: pytest.approx(row[name], rel=1e-4, abs=1e-4) for name in ("fluency", "divergence")}


def test_one_more_row_is_asked_alone_and_says_the_same(
    run: Callable[..., Results], tmp_path: Path, asked: list[Any]
) -> None:
    run(tmp_path / "grown", (2,))
    asked.clear()
    grown, answers = run(tmp_path / "grown", (2, 5))
    counts = {
        "answers": 3,
        "draws": 2 * 2,
        "options": 4,
        "attacks": 3,
        "asked for": 9,
        "harmless": 2 * 2,
        "KL": 2,
        "fit": 2 * 3,
    }
    assert len(asked) == sum(counts.values())
    assert {item.guidance.scale for item in asked if item.guidance} == {5}
    at_once, same = run(tmp_path / "at once", (2, 5))
    assert answers == same and grown == [near(row) for row in at_once]
    asked.clear()
    again, _ = run(tmp_path / "grown", (5, 2))
    assert [again[0], again[2], again[1]] == grown and not asked


def test_an_evaluation_that_was_cut_off_goes_on(run: Callable[..., Results], tmp_path: Path, asked: list[Any]) -> None:
    whole = run(tmp_path / "whole", (2,))
    count = len(asked)

    ticks = list[int]()

    def killed(done: int, total: int, word: str) -> None:
        ticks.append(done)
        if len(ticks) == 4:
            raise KeyboardInterrupt

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", (2,), tick=killed)
    assert 0 < len(asked) < count
    assert run(tmp_path / "cut", (2,)) == whole and len(asked) == count


def test_an_attack_in_other_words_is_asked_anew(
    run: Callable[..., Results], tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, ())
    asked.clear()
    monkeypatch.setitem(slot_attack._DESCRIPTIONS, "PERSON", "People")
    run(tmp_path, ())
    assert len(asked) == 3 and all("could be People." in item.prompt for item in asked)


def test_a_fit_under_other_masks_is_another_fit(run: Callable[..., Results], tmp_path: Path, asked: list[Any]) -> None:
    for word, times in (("Tom", 1), ("Tom", 1), ("Anna", 2)):
        run(tmp_path, (), ["leakage", "quality"], word=word)
        assert sum(not isinstance(item, Request) for item in asked) == times * 2 * 3


SAMPLES = [
    Sample(f"d{n}", f"d{n}", [{"role": "user", "content": f"Who is {word}?"}], "Tom.", "PERSON", "Tom")
    for n, word in enumerate(("Anna", "my friend"))
]


def test_progress_counts_answers_so_that_the_time_left_is_right(
    make_task: Callable[..., Task], tiny_folder: Path
) -> None:
    ticks = list[tuple[int, int, str]]()
    setups = [Setup("tuned", "tuned", str(tiny_folder)), Setup("other", "other", str(tiny_folder), system="Be brief.")]
    task = make_task(tiny_folder, setups=setups, tick=lambda *each: ticks.append(each))
    evaluate(task, [open_measure("words", count=6), open_measure("leakage_asked_for", samples=2)])
    asked = [(done, total, word.split()[0]) for done, total, word in ticks if word.endswith("set-ups")]
    samples = len(task.samples)
    total = 2 * (samples + 6 + 2 * 9)
    assert asked == [(0, total, "answers"), (2 * samples, total, "words"), (2 * (samples + 6), total, "asked_for")]


class Keeps(Measure):
    """Remembers what it was given."""

    def asks(self, task: Task) -> list[Ask]:
        def work(engine: Any, setups: Sequence[Setup]) -> list[Any]:
            (said, *_), *_ = generate(engine, setups, [task.samples[0].messages], max_tokens=4)
            return [[[said, [0.5]]] for _ in setups]

        return [Ask(kind="own", decides=1, work=work)]

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        self.found = found
        return [{} for _ in found]


def test_an_output_filter_comes_before_all_that_is_scored(make_task: Callable[..., Task], tiny_folder: Path) -> None:
    tuned, keeps = Setup("tuned", "tuned", str(tiny_folder)), Keeps()
    evaluate(make_task(tiny_folder), [keeps])
    ((said, _),) = keeps.found[0].given["own"]
    word = said.split()[0]
    rows, _ = evaluate(
        make_task(tiny_folder, word=word, setups=[tuned, replace(tuned, name="masked", masks=True)]), [keeps]
    )
    assert [one.given["own"] for one in keeps.found] == [[[said, [0.5]]], [[said.replace(word, "[removed]", 1), [0.5]]]]
    assert [row["filter_seconds"] is None for row in rows] == [True, False]


def test_a_set_up_that_an_ask_skips_is_not_asked_and_has_no_results(
    make_task: Callable[..., Task], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Skipping(Keeps):
        def asks(self, task: Task) -> list[Ask]:
            return [replace(ask, skips=lambda setup: setup.reference) for ask in super().asks(task)]

    opened = list[list[str]]()
    open_one = OneEngine.of

    def telling(engine: OneEngine, setups: Sequence[Setup]) -> Engine:
        opened.append([setup.name for setup in setups])
        return open_one(engine, setups)

    monkeypatch.setattr(OneEngine, "of", telling)
    tuned, skipping = Setup("tuned", "tuned", str(tiny_folder)), Skipping()
    task = make_task(tiny_folder, setups=[tuned, replace(tuned, name="plain", reference=True)])
    evaluate(task, [skipping])
    assert ["own" in one.given for one in skipping.found] == [True, False]
    assert all(one.answers for one in skipping.found)
    assert len(list(read_jsonl(task.answers / "own.jsonl"))) == 1
    assert opened == [["tuned", "plain"]] * 2, "the engine that is open has the adapters of all"


class Filled(Measure):
    """Fills one column with given values."""

    columns = (Column(key="filled", header="filled", meaning="filled"),)

    def __init__(self, *values: Any) -> None:
        self.values = values

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        return [{"filled": value} for value in self.values]


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.1, math.nan]])
def test_a_number_that_is_none_is_null(make_task: Callable[..., Task], tiny_folder: Path, value: Any) -> None:
    rows, _ = evaluate(make_task(tiny_folder), [Filled(value)])
    assert rows[0]["filled"] is None and json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_numbers_that_are_no_plain_data_are_one_line(make_task: Callable[..., Task], tiny_folder: Path) -> None:
    with pytest.raises(NescioError, match=r"measure Filled: 'filled' is not plain data .*int64"):
        evaluate(make_task(tiny_folder), [Filled(np.int64(3))])


def test_spans_that_overlap_are_counted_once() -> None:
    class Overlaps:
        name = "overlaps"

        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            return [[Span(4, 12, "GPE", "in Leeds"), Span(0, 6, "PERSON", "Ann in")] for _ in texts]

    (row,) = answer_rows(SAMPLES[:1], ["Ann in Leeds"], Overlaps())
    assert [(span["start"], span["end"], span["label"]) for span in row["spans"]] == [(0, 12, "GPE")]


def test_a_measure_that_is_wrong_is_one_line(make_task: Callable[..., Task], tiny_folder: Path) -> None:
    class Other(Filled):
        pass

    with pytest.raises(NescioError, match="Filled and Other both fill the column 'filled'"):
        evaluate(make_task(tiny_folder), [Filled(1), Other(1)])
    with pytest.raises(NescioError, match="Filled: returned 2 rows for 1 set-ups"):
        evaluate(make_task(tiny_folder), [Filled(1, 2)])
    with pytest.raises(NescioError, match="measure 'nothing': unknown; known here: choices, everyday, filler, fluency"):
        open_measure("nothing")
    with pytest.raises(NescioError, match=r"evaluate\.measures: harmless: .*unexpected keyword argument 'number'"):
        open_measure("harmless", number=3)


def test_a_measure_without_a_score_is_refused_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unscored(Measure):
        """Asks, and would fail after all answers."""

    monkeypatch.setattr(run_of_measures, "registry", {"unscored": Unscored})
    with pytest.raises(NescioError, match=r"evaluate\.measures: unscored: .*abstract.* score"):
        open_measure("unscored")


def test_on_topic_is_not_measured_where_all_samples_are_of_one_dialog(
    run: Callable[..., Results], tmp_path: Path
) -> None:
    samples = [replace(sample, dialog_id="d0") for sample in SAMPLES]
    for _ in range(2):  # the second time from the disk
        rows, _ = run(tmp_path, (2,), ["leakage", "quality"], samples=samples)
        assert [row["on_topic"] for row in rows] == [None, None] and not any(row["best"] for row in rows)
