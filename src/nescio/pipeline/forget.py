"""An erasure request: a run's adapter is taught to say nothing of a person, and a certificate says what came of it."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from nescio.audit import certificate
from nescio.audit.certificate_tests import History, has_shown
from nescio.audit.common import why_left_out
from nescio.audit.matching import match
from nescio.audit.people import Fact, read_people
from nescio.core.adapters import is_adapter, read_notes
from nescio.core.callbacks import Tick
from nescio.core.errors import NescioError
from nescio.core.files import file_hash, fingerprint, read_jsonl, read_object, write_json, write_jsonl
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import spread
from nescio.pipeline import anchors
from nescio.pipeline.certify import Asked, certify
from nescio.pipeline.context import Context
from nescio.pipeline.forget_answers import TrainingAnswer, facts_about, facts_of_others, probes_of_others
from nescio.pipeline.forget_form import shared_endings
from nescio.pipeline.forget_rounds import Rounds, sentences_of
from nescio.pipeline.stage_cache import Stage, read_manifest
from nescio.pipeline.train import copy_adapter

FORGOTTEN, CERTIFICATES = "forgotten", "certificates"
"""Folders of a run: what is trained along for earlier requests, which is personal; and what may be shown."""
BEFORE, FIRST = f"{FORGOTTEN}/before", f"{FORGOTTEN}/first"
"""The adapters of before the last request, and of before the first."""
ROWS, TRAINING = "answers.jsonl", "training.json"
"""What was struck out for a request; and how it was trained, in figures."""
_OTHERS = 60
"""Training dialogs of others that are drawn: they show what is form. Half are trained along, half are asked about."""
_EARLIER = 60
"""Answers of earlier requests that are trained along, at most; each request has its share."""

KEY = "forget.key"
"""A run's own key, which is drawn at its first request."""

Work = Callable[[Context, Path, Tick], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """An erasure request.

    Attributes:
        people: List of people with their facts, as `nescio audit` reads it.
        key: File of the key that names them in the certificate, and signs it.
        attacks: Attacks that are tried; empty: all.
        draws: Answers that are sampled to the plain question.
        epochs: Passes over the answers, in each round.
        learning_rate: Learning rate of the training.

    Raises:
        NescioError: The learning rate is no number above 0.
    """

    people: Path
    key: Path
    attacks: Sequence[str] = ()
    draws: int = 16
    epochs: int = 1
    learning_rate: float = 3e-4

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise NescioError(f"--learning-rate {self.learning_rate}: must be a number above 0")


def erasure_stage(run: Context, erasure: Erasure, prepared: Callable[[str, Work], Callable[[Path], None]]) -> Stage:
    """Return the stage that carries out a request. The same request twice is one: it is done before, or goes on.

    Args:
        run: The run.
        erasure: What is asked for.
        prepared: Makes the work of a stage, by its name, ready to be called with a folder.

    Raises:
        NescioError: The run has no adapter, an attack is unknown, the list of people is wrong or holds no fact that
            could prove anything, or the key is missing.
    """
    is_moving = any(run.out.glob(".forget-*/finished.json"))  # killed while its outputs were put in place
    if not is_adapter(run.out / "adapter") and not is_moving:
        raise NescioError(f"{run.out}: has no adapter; finish the run first, `nescio run … --out {run.out}`")
    people = list(read_people(erasure.people))
    asked = Asked(people=people, earlier=(), others=(), attacks=erasure.attacks, draws=erasure.draws)
    asked.plans(run)  # says what is wrong before anything is written
    if not erasure.key.exists() and erasure.key.resolve() != (run.out / KEY).resolve():
        raise NescioError(f"--key {erasure.key}: there is no such file; leave --key out, and {KEY} is drawn in the run")
    key = certificate.open_key(erasure.key)
    about, known = [certificate.hashed(key, own) for own in people], _certificates(run.out)
    number, earlier = _place(known, about)
    if others := [str(at) for at, each in enumerate(known, start=1) if not certificate.is_signed(key, each)]:
        run.note(
            f"{CERTIFICATES}/{', '.join(others)}: not signed with {erasure.key}, so this is a request of its own, "
            "even if they are about the same people; stop here, and give their --key"
        )
    shown = has_shown([each for each in known if certificate.is_signed(key, each)], about)
    # Nothing here tells who it is: the manifest stays when the run's personal data is deleted.
    depends = [about, earlier, list(erasure.attacks), erasure.draws, erasure.epochs, erasure.learning_rate]

    def work(run: Context, folder: Path, tick: Tick) -> None:
        _Request(run, erasure, people, number, folder, tick).carry_out(key, about, shown)

    before = (BEFORE,) if (run.out / FIRST).exists() else (BEFORE, FIRST)
    outputs = (*before, "adapter", f"{CERTIFICATES}/{number}", f"{FORGOTTEN}/{number}")
    return Stage(f"forget-{number}", outputs, depends, (), prepared(f"forget-{number}", work))


def holds(out: Path, stage: Stage) -> bool:
    """Return whether the adapter of a run is what a request, or one after it, has left; else the request is repeated.

    Args:
        out: The run's folder.
        stage: The request's.
    """
    number, done = _number(stage.name), read_manifest(out / "manifest.json")["stages"]
    left = [own["outputs"]["adapter"] for name, own in done.items() if _number(name) >= number]
    return not left or file_hash(out / "adapter") in left


def _number(stage: str) -> int:
    """Return the number of a request by its stage's name; 0 for a stage that is none."""
    return int(stage.removeprefix("forget-")) if stage.startswith("forget-") else 0


def refuse_retraining(out: Path, what: str) -> None:
    """Refuse to retrain an adapter that has an erasure request: it would relearn the people.

    Raises:
        NescioError: The run has one.
    """
    if (out / CERTIFICATES).exists():
        raise NescioError(
            f"{out}: {what} would bring back people whom the adapter was made to forget; give another --out and "
            f"dialogs without them, or delete {CERTIFICATES}/ and send the requests again"
        )


def _certificates(out: Path) -> list[dict[str, Any]]:
    """Return a run's certificates, in the order of their requests."""
    numbers = range(1, sum(1 for _ in (out / CERTIFICATES).glob("*/")) + 1)
    return [read_object(out / f"{CERTIFICATES}/{number}/certificate.json", "put it back") for number in numbers]


def _place(known: Sequence[dict[str, Any]], about: list[dict[str, Any]]) -> tuple[int, list[Any]]:
    """Return a request's number, and what the requests before it are about."""
    each = [content["about"] for content in known]
    before = each.index(about) if about in each else len(each)
    return before + 1, each[:before]


def _named(run: Context, people: Sequence[Sequence[Fact]]) -> int | None:
    """Return how many people are named in the training dialogs; None where these were deleted."""
    path = run.out / "data/train.jsonl"
    if not path.exists():
        return None
    texts = ["\n".join(turn["content"] for turn in dialog.messages) for dialog in read_dialogs(path)]
    return sum(any(match(text, own[0].person, "person") == "exact" for text in texts) for own in people)


@dataclass(frozen=True, slots=True)
class _Request:
    """A request at work.

    Attributes:
        run: The run.
        erasure: What is asked for.
        people: The facts of each person.
        number: Number of the request.
        folder: Working folder; what a killed job has left there is used.
        tick: Called with progress.
    """

    run: Context
    erasure: Erasure
    people: Sequence[Sequence[Fact]]
    number: int
    folder: Path
    tick: Tick

    def carry_out(self, key: bytes, about: list[dict[str, Any]], has_shown: bool) -> None:
        """Write the outputs of the stage."""
        run, erasure, folder = self.run, self.erasure, self.folder
        self._begin()
        earlier = self._earlier_people()
        others = facts_of_others(run, [*self.people, *earlier], _OTHERS, run.recipe.seed + self.number)
        held, others = others[: len(others) // 2], others[len(others) // 2 :]  # what is measured is not trained
        asked = Asked(
            people=facts_about(run, self.people), earlier=facts_about(run, earlier), others=others,
            attacks=erasure.attacks, draws=erasure.draws,
        )  # fmt: skip
        asked.plans(run)  # others may have all of it, which shows before anything is trained
        kept, adapter = folder / f"{FORGOTTEN}/{self.number}", folder / "adapter"
        # 1) the adapter goes on from where it is, until nothing comes out
        if not (adapter / "log.jsonl").exists():  # written last
            self._train(asked, held, kept, adapter)
        shutil.copy(erasure.people, kept / f"people{erasure.people.suffix or '.jsonl'}")
        # 2) what comes out, before and after
        files = [run.out / f"{CERTIFICATES}/{each.name}/certificate.json" for each in self._earlier()]
        certified = [read_object(path, "put it back")["after"]["own"] for path in files]
        history, first = History(earlier=certified, has_shown=has_shown), self._first()
        content: dict[str, Any] = {"number": self.number, "about": about, "named_in_dialogs": _named(run, self.people)}
        content |= certify(run, asked, history, adapter, first, folder, self.tick)
        content["training"] = read_object(kept / TRAINING, "put it back")
        left_out = why_left_out(
            (fact for own in asked.people for fact in own), [fact for own in others for fact in own]
        )
        content["not_asked_for"] = certificate.unasked(key, left_out, self.people)
        certificate.write(certificate.signed(key, content), folder / f"{CERTIFICATES}/{self.number}")
        # 3) the adapter of before, should the request do more harm than good; and that of before all of them
        for name in (BEFORE,) if (run.out / FIRST).exists() else (BEFORE, FIRST):
            shutil.copytree(run.out / "adapter", folder / name, dirs_exist_ok=True)

    def _first(self) -> Path:
        """Return the adapter of before the first request; after a purge it is that of now."""
        kept = self.run.out / FIRST
        return kept if kept.exists() else self.run.out / "adapter"

    def _begin(self) -> None:
        """Drop what a killed job has left, unless its record says that it began from this adapter, with these settings.

        An older version left no record: of what its answers and checkpoints are, nobody knows.
        """
        recipe = self.run.recipe
        began = {
            "adapter": file_hash(self.run.out / "adapter"),
            "recipe": fingerprint([recipe.seed, recipe.detector.model_dump(), recipe.train.model_dump()]),
        }
        record = self.folder / "began.json"
        if not record.exists() or read_object(record, "delete it") != began:
            shutil.rmtree(self.folder)
            write_json(record, began)

    def _earlier(self) -> list[Path]:
        folders = sorted((self.run.out / FORGOTTEN).glob("[0-9]*"), key=lambda folder: int(folder.name))
        return [folder for folder in folders if int(folder.name) != self.number]

    def _earlier_people(self) -> list[list[Fact]]:
        lists = [(folder, next(folder.glob("people*"), None)) for folder in self._earlier()]
        if lost := [folder for folder, path in lists if path is None]:
            raise NescioError(f"{lost[0]}: has no list of people, who have to stay forgotten; put it back")
        return [own for _, path in lists if path for own in read_people(path)]

    def _train(self, asked: Asked, held: Sequence[Sequence[Fact]], kept: Path, adapter: Path) -> None:
        """Train, and keep with the people what later requests train along."""
        run, erasure, before = self.run, self.erasure, self.run.out / "adapter"
        earlier = self._earlier_rows()
        done, own, log = Rounds(
            run=run, people=asked.people, earlier=earlier, epochs=erasure.epochs, learning_rate=erasure.learning_rate,
            others=list(probes_of_others(held, [*asked.people, *asked.earlier], sentences_of(run))),
            first=self._first(),
            endings=shared_endings(fact for own in [*held, *asked.others] for fact in own),
            seed=run.recipe.seed + 1000 * self.number, folder=self.folder, tick=self.tick,
        ).train()  # fmt: skip
        write_jsonl(kept / ROWS, map(asdict, own))
        write_jsonl(kept / "log.jsonl", log)
        figures = {
            "answers": len(own), "earlier": len(earlier), "others": len(held), "rounds": log[-1]["round"],
            "steps": len(log), "anchors": (run.out / anchors.ROWS).exists(),
        }  # fmt: skip
        write_json(kept / TRAINING, figures)
        notes = {name: value for name, value in read_notes(before).items() if name != "base"}
        copy_adapter(run, done, adapter, before, **notes | {"forgotten": self.number})
        shutil.copy(before / "log.jsonl", adapter / "log.jsonl")  # the report draws the run's own

    def _earlier_rows(self) -> list[TrainingAnswer]:
        """Return answers of earlier requests, equally many of each where there are more than are trained along."""
        rows = list[tuple[str, TrainingAnswer]]()
        for folder in self._earlier():
            if not (folder / ROWS).exists():
                self.run.note(f"{folder}: of an older version, and not trained along; send that request again")
                continue
            rows += [(folder.name, TrainingAnswer(**row)) for _, row in read_jsonl(folder / ROWS)]
        drawn = spread(rows, lambda each: each[0], _EARLIER, Random(self.run.recipe.seed))
        return [row for _, row in drawn]
