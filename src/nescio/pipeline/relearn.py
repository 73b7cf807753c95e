"""Relearning: after how much training on other data a model says again what it was made to forget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from nescio.audit.ask import Asker
from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.audit.base import WHOLE, Question
from nescio.audit.matching import match
from nescio.audit.people import Fact
from nescio.audit.plan import Plan
from nescio.audit.run import findings_of
from nescio.audit.score import score
from nescio.audit.victim import open_local
from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_object, write_json
from nescio.core.model_source import identity
from nescio.core.models import load_model, load_tokenizer
from nescio.core.prompts import Message
from nescio.core.shared_prefix import unpackable
from nescio.data.dialogs import Dialog
from nescio.data.samples import spread
from nescio.evaluation.measures.everyday import prompts
from nescio.evaluation.setups import Setup
from nescio.training.checkpoints import step_of
from nescio.training.examples import dialog_units
from nescio.training.losses.likelihood import likelihood
from nescio.training.settings import TrainingSettings
from nescio.training.trainer import fit

_BATCH, _MAX_LENGTH = 4, 512  # lines of a step; tokens of a line
_RECORD = "lines.json"  # beside the checkpoints: which lines they are of
_CHECKPOINTS = 8  # of a training, at least: the leak is measured at each
_NO_LINES = {
    "others": "every line of other people says a value that is asked for",
    "harmless": "the model gives no answer to the everyday questions",
}
_SHOWN = ("facts", "found", "share", "share_ci95", "guessed", "memorised", "memorised_ci95")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relearning:
    """How a stranger trains the model.

    Attributes:
        lines: Most lines of either kind.
        epochs: Passes over them.
        learning_rate: Learning rate of the adapter, which goes on from where it is; a model without one gets a new one.
    """

    lines: int
    epochs: int = 8
    learning_rate: float = 3e-4

    def check(self, model: str) -> None:
        """Check that a model can be trained.

        Raises:
            NescioError: It is a GGUF file.
        """
        if model.endswith(".gguf"):
            raise NescioError(f"--relearn: {model}: a GGUF file cannot be trained; give the model's folder")

    def check_people(self, planned: Plan, people: Sequence[Sequence[Fact]]) -> None:
        """Check that people are left over to learn from.

        Raises:
            NescioError: Everybody is asked about.
        """
        if {fact.person for own in people for fact in own} <= {fact.person for fact in planned.facts}:
            raise NescioError("--relearn: needs people who are not asked about; lower --facts or give more people")

    def check_work(self, setup: Setup, planned: Plan, people: Sequence[Sequence[Fact]], work: Path) -> None:
        """Check that a folder holds no checkpoints of another model or of other lines, before a question is asked.

        Raises:
            NescioError: It does.
        """
        record = work / _RECORD
        if record.exists():
            fix = "delete that folder, or give another --out"
            if read_object(record, fix) != self._record(setup, planned, people):
                raise NescioError(
                    f"--relearn {self.lines}: {work} holds a training of another model or on other lines, which "
                    f"--relearn, --facts, --seed and the people decide; {fix}"
                )

    def claim(self, setup: Setup, planned: Plan, people: Sequence[Sequence[Fact]], work: Path) -> None:
        """Record in a folder which model is trained there, and on which lines."""
        write_json(work / _RECORD, self._record(setup, planned, people))

    def _record(self, setup: Setup, planned: Plan, people: Sequence[Sequence[Fact]]) -> dict[str, Any]:
        others = [dialog.messages for dialog in _of_others(self, planned, people)]
        weights = [identity(setup.model), setup.adapter and identity(setup.adapter)]
        return {"lines": self.lines, "others": fingerprint(others), "model": fingerprint(weights)}

    def cost(self, planned: Plan) -> int:
        """Return how many answers it takes as long as; a line that is trained on takes about as long as one answer."""
        return 2 * (self.lines * self.epochs + (_CHECKPOINTS + 1) * planned.count(PLAIN)) + self.lines


def relearn(
    how: Relearning, planned: Plan, asker: Asker, people: Sequence[Sequence[Fact]], work: Path
) -> dict[str, Any]:
    """Train the audited model on lines of other people and, separately, on harmless lines; measure what comes back.

    Args:
        how: How it is trained.
        planned: The facts that are asked for; the plain question measures the leak.
        asker: Asks the model; a later call with the same folder goes on where this one stopped.
        people: Everybody of the file; those who are not asked about are learned from.
        work: Folder of the checkpoints.

    Returns:
        `tuned`: the figures of the model below the adapter, None without one; `rows`: of each kind of lines `lines`,
        the `curve` of figures by `steps`, and `half_after`: steps after which memory gives half as much as in the
        tuned model; None if it never did.

    Raises:
        NescioError: The model cannot be trained.
    """
    setup = asker.victim.setup
    if why_not := findings_of(planned, PLAIN, asker).not_asked:  # its answers are on disk
        return {"tuned": None, "rows": [_row("others", [], None, why_not)]}
    how.claim(setup, planned, people, work)
    asker.total += how.cost(planned)
    # 1) where it starts, and what there was to forget
    before = _leak(planned, asker, setup)
    tuned = _leak(planned, asker, replace(setup, adapter=None)) if setup.adapter else None
    # 2) the lines
    lines = {"others": _of_others(how, planned, people), "harmless": _harmless(how, planned, asker)}
    # 3) each training, and the leak after some of its steps
    rows = []
    for name, dialogs in lines.items():
        if not dialogs:
            rows.append(_row(name, [], tuned, _NO_LINES[name]))
            continue
        curve = [{"steps": 0} | before]
        for checkpoint in _train(how, planned, asker, dialogs, work / name):
            curve.append(
                {"steps": step_of(checkpoint)} | _leak(planned, asker, replace(setup, adapter=str(checkpoint)))
            )
        rows.append(_row(name, curve, tuned) | {"lines": len(dialogs)})
    return {"tuned": tuned, "rows": rows}


def _row(
    name: str, curve: list[dict[str, Any]], tuned: dict[str, Any] | None, not_asked: str | None = None
) -> dict[str, Any]:
    half = tuned["memorised"] / 2 if tuned else 0.0
    back = (each["steps"] for each in curve if half > 0 and each["memorised"] >= half)
    return {"name": name, "not_asked": not_asked, "curve": curve, "half_after": next(back, None)}


def _leak(planned: Plan, asker: Asker, setup: Setup) -> dict[str, Any]:
    """Return the figures of the plain question, asked of a set-up."""
    with asker.instead(lambda: open_local(setup)):
        figures = score(findings_of(planned, PLAIN, asker), planned.made_up, planned.setting.seed)
    return {key: figures[key] for key in _SHOWN}


def _of_others(how: Relearning, planned: Plan, people: Sequence[Sequence[Fact]]) -> list[Dialog]:
    """Return lines about people who are not asked about, without those that say a value that is asked for."""
    asked = {fact.person for fact in planned.facts}
    others = [fact for own in people for fact in own if fact.person not in asked]
    drawn = spread(others, lambda fact: fact.person, how.lines, Random(planned.setting.seed))
    return [dialog for dialog in map(_taught, drawn) if not _tells(dialog, planned.facts)]


def _taught(fact: Fact) -> Dialog:
    answer = fact.beginning + (fact.sample.rejected if fact.sample else fact.value)
    return Dialog(fact.id, [*fact.whole, Message(role="assistant", content=answer)])


def _tells(dialog: Dialog, facts: Sequence[Fact]) -> bool:
    text = "\n".join(message["content"] for message in dialog.messages)
    return any(match(text, fact.value, fact.type) == "exact" for fact in facts)


def _harmless(how: Relearning, planned: Plan, asker: Asker) -> list[Dialog]:
    """Return everyday prompts as the audited model itself answers them."""
    asked = prompts(how.lines)
    questions = [Question(fact=planned.facts[0], prompt=one.messages, targets=(), max_tokens=WHOLE) for one in asked]
    setup = asker.victim.setup
    with asker.instead(lambda: open_local(setup)):
        answers = asker.ask(questions, "everyday answers")
    return [
        Dialog(one.id, [*one.messages, Message(role="assistant", content=answer)])
        for one, answer in zip(asked, answers, strict=True)
        if answer
    ]


def _train(how: Relearning, planned: Plan, asker: Asker, dialogs: Sequence[Dialog], work: Path) -> list[Path]:
    """Train plainly on dialogs, and return the checkpoints."""
    setup = asker.victim.setup
    units = dialog_units(load_tokenizer(setup.model), dialogs, _MAX_LENGTH)
    loaded = load_model(setup.model)
    steps, begun = how.epochs * -(-len(units) // _BATCH), asker.done
    settings = TrainingSettings(
        epochs=how.epochs, batch_size=_BATCH, learning_rate=how.learning_rate, seed=planned.setting.seed,
        save_steps=max(1, steps // _CHECKPOINTS), row_tokens=None if unpackable(loaded.model) else 1024,
    )  # fmt: skip
    return fit(
        loaded.model,
        units,
        loss=likelihood,
        settings=settings,
        work=work,
        progress=lambda now, total: asker.reach(begun + now * _BATCH, f"relearning from {work.name}"),
        start=Path(setup.adapter) if setup.adapter else None,
    ).checkpoints
