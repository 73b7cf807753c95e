"""What a table keeps on the disk, and when it asks again."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.data.samples import Sample
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation import run as room
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Measured, Plan, measure
from nescio.evaluation.measures import slot_attack
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.run import Subject
from nescio.evaluation.setups import Setup
from nescio.pii.base import Span


class Finds:
    """Finds one word, under a name that does not tell which."""

    name = "finds"

    def __init__(self, word: str) -> None:
        self.word = word

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        places = [text.find(self.word) for text in texts]
        return [[Span(at, at + len(self.word), "X", self.word)] if at >= 0 else [] for at in places]


def test_a_fit_under_other_masks_is_another_fit(
    tmp_path: Path, tiny: Callable[..., TorchEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str) -> TorchEngine:
        loaded.append(name)
        return tiny()

    monkeypatch.setattr(room, "load", load)
    answers: dict[str, list[dict[str, Any]]] = {
        "x": [
            {"dialog_id": who, "messages": [{"role": "user", "content": f"I am {who}"}], "answer": "hello", "spans": []}
            for who in ("Tom", "Anna")
        ]
    }
    subject = Subject([], Plan([], 1), [], "owner/base", "")
    for word, times in (("Tom", 1), ("Tom", 1), ("Anna", 2)):
        room._fits(subject, answers, Finds(word), Kept(tmp_path / "kept"))
        assert len(loaded) == times


def table(folder: Path, scales: Sequence[float]) -> tuple[list[Setup], Plan]:
    """The tuned model plainly and guided, and one of each measure."""
    tuned = Setup("tuned", "tuned", str(folder))
    guided = [replace(tuned, name=f"x-{s:g}", guidance=Guidance(s, "prob", PROTECT, REVEAL)) for s in scales]
    samples = [
        Sample(f"d{n}", f"d{n}", [{"role": "user", "content": f"Who is {word}?"}], "Tom.", "PERSON", "Tom")
        for n, word in enumerate(("Anna", "Tom", "my friend"))
    ]
    asked = [Question("q", "field", "Who lives in Geneva?", ("Anna", "Tom", "my name"), 0, listed=False)]
    return [tuned, *guided], Plan(samples, 8, 2, 2, asked, 2, samples, asked)


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


def run(folder: Path, kept: Path, scales: Sequence[float], tick: Any = lambda *_: None) -> dict[str, Measured]:
    setups, plan = table(folder, scales)
    return measure(setups, plan, Finds("Tom"), Kept(kept), tick)


def test_one_more_row_is_asked_alone_and_says_the_same(tiny_folder: Path, tmp_path: Path, asked: list[Any]) -> None:
    run(tiny_folder, tmp_path / "grown", (2,))
    asked.clear()
    grown = run(tiny_folder, tmp_path / "grown", (2, 5))
    assert len(asked) == 3 + 2 * 2 + 3 + 2 * 2 + 3 + 1 + 2, "answers, draws, options, harmless, attacks, reply, KL"
    assert {item.guidance.scale for item in asked if item.guidance} == {5}
    at_once = run(tiny_folder, tmp_path / "at once", (2, 5))
    for name, right in at_once.items():
        for measured in ("answers", "draws", "picks", "attacks", "replies"):
            assert getattr(grown[name], measured) == getattr(right, measured)
        assert [text for text, _ in grown[name].harmless] == [text for text, _ in right.harmless]
        assert grown[name].divergence == pytest.approx(right.divergence, abs=1e-5)
    asked.clear()
    assert run(tiny_folder, tmp_path / "grown", (5, 2)) == grown and not asked


def test_what_was_cut_off_goes_on(tiny_folder: Path, tmp_path: Path, asked: list[Any]) -> None:
    whole = run(tiny_folder, tmp_path / "whole", (2,))
    count = len(asked)

    def killed(done: int, total: int, word: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tiny_folder, tmp_path / "cut", (2,), killed)
    assert 0 < len(asked) < count
    assert run(tiny_folder, tmp_path / "cut", (2,)) == whole and len(asked) == count


def test_an_attack_in_other_words_is_asked_anew(
    tiny_folder: Path, tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_folder, tmp_path, ())
    asked.clear()
    monkeypatch.setitem(slot_attack._DESCRIPTIONS, "PERSON", "People")
    run(tiny_folder, tmp_path, ())
    assert len(asked) == 3 and all("could be People." in item.prompt for item in asked)


def test_an_output_filter_stands_before_all_that_is_shown(tiny_folder: Path, tmp_path: Path) -> None:
    (tuned,), plan = table(tiny_folder, ())
    (said, _), *_ = run(tiny_folder, tmp_path, ())["tuned"].harmless
    word = said.split()[0]
    masks = replace(tuned, name="masked", masks=True)
    found = measure([tuned, masks], plan, Finds(word), Kept(tmp_path), lambda *_: None)
    assert [found[name].harmless[0][0] for name in ("tuned", "masked")] == [said, said.replace(word, "[removed]", 1)]
    assert found["masked"].harmless[0][1] == found["tuned"].harmless[0][1]
