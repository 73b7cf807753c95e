"""An erasure request: a run's adapter is taught to say nothing of a person, and a certificate says what came of it."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from nescio.audit import certificate
from nescio.audit.people import Fact, read_people
from nescio.core.adapters import is_adapter, read_notes
from nescio.core.errors import NescioError
from nescio.core.files import read_object, write_jsonl
from nescio.core.models import load_model, load_tokenizer
from nescio.core.switch import FILE, filled
from nescio.data.samples import spread
from nescio.data.trajectories import asked_ways
from nescio.pipeline import anchors
from nescio.pipeline.bake import answer_units
from nescio.pipeline.certify import Asked, certify
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.forget_pairs import facts_about, sentences_of, write_pairs
from nescio.pipeline.memory import check_memory
from nescio.pipeline.stage_cache import Stage
from nescio.pipeline.train import copy_adapter, row_tokens
from nescio.training.anchors import Anchors, AnchorSettings
from nescio.training.batch import Unit
from nescio.training.examples import read_pairs
from nescio.training.losses.registry import open_loss
from nescio.training.memory import largest_step
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import Trained, fit

FORGOTTEN, CERTIFICATES = "forgotten", "certificates"
"""Folders of a run: what is trained along for earlier requests, which is personal; and what may be shown."""
BEFORE, FIRST = f"{FORGOTTEN}/before", f"{FORGOTTEN}/first"
"""The adapters of before the last request, and of before the first."""
_ANCHORS = 4  # beside each step
_EARLIER = 2  # times as many units of earlier requests as of this one, at most

Work = Callable[[Context, Path, Tick], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """An erasure request.

    Attributes:
        people: List of people with their facts, as `nescio audit` reads it.
        key: File of the key that names them in the certificate, and signs it.
        attacks: Attacks that are tried; empty: all.
        draws: Answers that are sampled to the plain question.
        epochs: Passes over the pairs.
        learning_rate: Of the training.
    """

    people: Path
    key: Path
    attacks: Sequence[str] = ()
    draws: int = 16
    epochs: int = 4
    learning_rate: float = 3e-4


def erasure_stage(run: Context, erasure: Erasure, prepared: Callable[[str, Work], Callable[[Path], None]]) -> Stage:
    """Return the stage that carries out a request. The same request twice is one: it is done before, or goes on.

    Args:
        run: The run.
        erasure: What is asked for.
        prepared: Makes the work of a stage, by its name, ready to be called with a folder.

    Raises:
        NescioError: The run has no adapter, an attack is unknown, or the list of people is wrong or holds no fact that
            could prove anything.
    """
    is_moving = any(run.out.glob(".forget-*/finished.json"))  # killed while its outputs were put in place
    if not is_adapter(run.out / "adapter") and not is_moving:
        raise NescioError(f"{run.out}: has no adapter; finish the run first, `nescio run … --out {run.out}`")
    people = list(read_people(erasure.people))
    asked = Asked(people=people, earlier=(), attacks=erasure.attacks, draws=erasure.draws)
    asked.plans(run)  # says what is wrong before anything is written
    key = certificate.open_key(erasure.key)
    about = [certificate.hashed(key, own) for own in people]
    number, earlier = _place(run.out, about)
    # Nothing here tells who it is: the manifest stays when the run's personal data is deleted.
    depends = [about, earlier, list(erasure.attacks), erasure.draws, erasure.epochs, erasure.learning_rate]

    def work(run: Context, folder: Path, tick: Tick) -> None:
        _Request(run, erasure, people, number, folder, tick).carry_out(key, about)

    before = (BEFORE,) if (run.out / FIRST).exists() else (BEFORE, FIRST)
    outputs = (*before, "adapter", f"{CERTIFICATES}/{number}", f"{FORGOTTEN}/{number}")
    return Stage(f"forget-{number}", outputs, depends, (), prepared(f"forget-{number}", work))


def refuse_to_bring_back(out: Path, what: str) -> None:
    """Refuse what would make the adapter of a run with an erasure request again.

    Raises:
        NescioError: The run has one.
    """
    if (out / CERTIFICATES).exists():
        raise NescioError(
            f"{out}: {what} would bring back people whom the adapter was made to forget; give another --out and "
            f"dialogs without them, or delete {CERTIFICATES}/ and send the requests again"
        )


def _place(out: Path, about: list[dict[str, Any]]) -> tuple[int, list[Any]]:
    """Return a request's number, and what the requests before it are about."""
    before: list[Any] = []
    for number in range(1, sum(1 for _ in (out / CERTIFICATES).glob("*/")) + 1):
        known = read_object(out / f"{CERTIFICATES}/{number}/certificate.json", "put it back")["about"]
        if known == about:
            return number, before
        before.append(known)
    return len(before) + 1, before


@dataclass(frozen=True, slots=True)
class _Request:
    """A request at work.

    Attributes:
        run: The run.
        erasure: What is asked for.
        people: The facts of each person.
        number: Of the request.
        folder: Working folder; what a killed job has left there is used.
        tick: Called with progress.
    """

    run: Context
    erasure: Erasure
    people: Sequence[Sequence[Fact]]
    number: int
    folder: Path
    tick: Tick

    def carry_out(self, key: bytes, about: list[dict[str, Any]]) -> None:
        """Write the outputs of the stage."""
        run, erasure, folder = self.run, self.erasure, self.folder
        asked = Asked(
            people=facts_about(run, self.people), earlier=facts_about(run, self._earlier_people()),
            attacks=erasure.attacks, draws=erasure.draws,
        )  # fmt: skip
        # 1) pairs of this request, kept with the people for the requests that follow
        kept = folder / f"{FORGOTTEN}/{self.number}"
        pairs = kept / "pairs.jsonl"
        if not pairs.exists():
            write_pairs(run, asked.people, pairs, folder, self.tick)
        shutil.copy(erasure.people, kept / f"people{erasure.people.suffix}")
        # 2) the adapter goes on from where it is
        own, held = self._units(pairs), self._anchors()
        earlier = spread(self._earlier_units(), _request_of, _EARLIER * len(own), Random(run.recipe.seed))
        adapter = folder / "adapter"
        if not (adapter / "log.jsonl").exists():  # written last
            done = self._train(own, earlier, held)
            notes = {name: value for name, value in read_notes(run.out / "adapter").items() if name != "base"}
            copy_adapter(run, done.checkpoints[-1], adapter, run.out / "adapter", **notes | {"forgotten": self.number})
            write_jsonl(kept / "log.jsonl", done.log)
            shutil.copy(run.out / "adapter/log.jsonl", adapter / "log.jsonl")  # the report draws the run's own
        # 3) what comes out, before and after
        is_first = not (run.out / FIRST).exists()  # or the run was purged
        first = run.out / ("adapter" if is_first else FIRST)
        content = {"number": self.number, "about": about} | certify(run, asked, adapter, first, folder, self.tick)
        content["training"] = {
            "pairs": sum(map(len, own)), "earlier": sum(map(len, earlier)),
            "anchors": len(held.units) if held else 0, "epochs": erasure.epochs,
        }  # fmt: skip
        certificate.write(certificate.signed(key, content), folder / f"{CERTIFICATES}/{self.number}")
        # 4) the adapter of before, should the request do more harm than good; and that of before all of them
        for name in (BEFORE, FIRST) if is_first else (BEFORE,):
            shutil.copytree(run.out / "adapter", folder / name, dirs_exist_ok=True)

    def _earlier(self) -> list[Path]:
        folders = sorted((self.run.out / FORGOTTEN).glob("[0-9]*"), key=lambda folder: int(folder.name))
        return [folder for folder in folders if int(folder.name) != self.number]

    def _earlier_people(self) -> list[list[Fact]]:
        return [own for folder in self._earlier() for path in folder.glob("people.*") for own in read_people(path)]

    def _earlier_units(self) -> list[Unit]:
        return [unit for folder in self._earlier() for unit in self._units(folder / "pairs.jsonl")]

    def _units(self, pairs: Path) -> list[Unit]:
        section = self.run.recipe.train
        return read_pairs(
            pairs, load_tokenizer(self.run.start), max_length=section.max_length,
            max_prompt=section.max_prompt_length, counts=Counter(),
            filled=lambda prompt: filled(prompt, self.run.out / FILE),
        )  # fmt: skip

    def _anchors(self) -> Anchors | None:
        """Return the run's anchors, under the adapter's sentences and behind requests for personal data."""
        run = self.run
        if not (run.out / anchors.ROWS).exists():
            run.note("this run has no anchors, so the adapter is held to nothing; look at the certificate's usefulness")
            return None
        tokenizer, kept, seed = load_tokenizer(run.start), anchors.read(run.out), run.recipe.seed + self.number
        sentences = [sentence and filled(sentence, run.out / FILE) for sentence in sentences_of(run)]
        asked = asked_ways([each.messages for each, _ in kept], 4 * len(kept), 0.5, seed)
        units = [*anchors.anchor_units(tokenizer, kept, sentences), *answer_units(tokenizer, kept, asked)]
        how = AnchorSettings(per_step=min(_ANCHORS, len(units)))
        return Anchors(units, how, seed=seed, row_tokens=run.recipe.train.row_tokens)

    def _train(self, own: list[Unit], earlier: list[Unit], held: Anchors | None) -> Trained:
        run, erasure, section = self.run, self.erasure, self.run.recipe.train
        units = [*own, *earlier]
        settings = TrainingSettings(
            epochs=erasure.epochs, batch_size=4, learning_rate=erasure.learning_rate,
            seed=run.recipe.seed + self.number, gradient_checkpointing=section.gradient_checkpointing,
        )  # fmt: skip
        check_memory(run.start, largest_step(units, settings), section.quantize, "train", run.note)
        loaded = load_model(run.start, quantize=section.quantize)
        rows = row_tokens(run, loaded.model, section.row_tokens)
        return fit(
            loaded.model,
            units,
            loss=open_loss("orpo").bind(beta=1.0, nll_over="answer"),
            settings=replace(settings, row_tokens=rows),
            work=self.folder / "checkpoints",
            progress=lambda now, total: self.tick(now, total, f"{len(own)} pairs, {len(earlier)} of earlier requests"),
            anchors=held,
            start=run.out / "adapter",
        )


def _request_of(unit: Unit) -> str:
    """Return the request that a unit is of, so that each earlier one has its share."""
    return unit[0].name.partition("/")[0]
