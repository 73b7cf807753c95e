"""A table: what was measured of its set-ups, counted, weighed and tested against the tuned model.

Joins the measures of this room. Knows samples, engines and detectors; nothing of run folders or training.
"""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from nescio.core.models import identity
from nescio.engines.torch_engine import load
from nescio.evaluation import results
from nescio.evaluation.best import mark_best
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Measured, Plan, Tick, measure
from nescio.evaluation.measures import choices, harmless, slot_attack
from nescio.evaluation.measures.judge import Judge, judged_fields
from nescio.evaluation.measures.leakage import answer_rows
from nescio.evaluation.measures.quality import Fit, fits, mask
from nescio.evaluation.setups import Setup
from nescio.pii.base import Detector


@dataclass(frozen=True, slots=True)
class Subject:
    """What a table is about.

    Attributes:
        setups: Its rows, the tuned model first.
        plan: What is measured of each.
        own: The pieces of personal data of each sample's dialog.
        base: The base model, under which answers are weighed.
        protect: The protect sentence, which no answer should repeat.
    """

    setups: Sequence[Setup]
    plan: Plan
    own: Sequence[Collection[str]]
    base: str
    protect: str


def evaluate(
    subject: Subject, detector: Detector, kept: Kept, tick: Tick, judge: Judge | None = None
) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Make a table.

    Args:
        subject: What it is about.
        detector: Decides what is personal.
        kept: Where finished pieces go.
        tick: Called with pieces done, pieces in all, and a word.
        judge: Asked about the replies to the plan's questions, if any.

    Returns:
        The rows of `results.json`, and each row's answers with their spans.
    """
    setups, plan = subject.setups, subject.plan
    found = measure(setups, plan, detector, kept, tick)
    answers = {name: answer_rows(plan.samples, one.answers, detector) for name, one in found.items()}
    tick(1, 1, "do the answers fit their prompts?")
    fit_of = _fits(subject, answers, detector, kept)
    tuned = found[setups[0].name]
    rows = [
        results.result_row(setup, answers[setup.name], subject.own, fit_of[setup.name], subject.protect, plan.seed)
        | _more(found[setup.name], tuned, plan, detector)
        for setup in setups
    ]
    if judge is not None:
        replies = [found[setup.name].replies for setup in setups]
        judged = judged_fields(judge, plan.judged, replies, plan.seed, tick)
        rows = [row | more for row, more in zip(rows, judged, strict=True)]
    mark_best(rows)
    return rows, answers


def _fits(subject: Subject, answers: dict[str, list[dict[str, Any]]], detector: Detector, kept: Kept) -> dict[str, Fit]:
    read = mask(answers, detector)  # what the detector masks is part of what is asked: no other's result is taken
    names, base = list(read.answers), identity(subject.base)

    def work(missing: list[int]) -> list[dict[str, Any]]:
        some = {names[number]: read.answers[names[number]] for number in missing}
        with closing(load(subject.base)) as engine:
            return [asdict(fit) for fit in fits(replace(read, answers=some), engine).values()]

    asked = [[base, read.own, read.other, read.answers[name]] for name in names]
    return {name: Fit(**fit) for name, fit in zip(names, kept.get("fit", asked, work), strict=True)}


def _more(found: Measured, tuned: Measured, plan: Plan, detector: Detector) -> dict[str, Any]:
    """The fields of the measures that the plan asks for."""
    fields: dict[str, Any] = {"filter_seconds": found.filter_seconds}
    if plan.questions:
        right, before = (choices.right(plan.questions, one.picks) for one in (found, tuned))
        kind = "MMLU-Pro" if plan.questions[0].listed else "plain questions"
        fields |= results.utility(right, before, f"{kind}, by likelihood", plan.seed)
    if plan.draws:
        leaking = [[bool(spans) for spans in detector.find(texts)] for texts in found.draws]
        fields |= results.leaks(leaking, [sample.dialog_id for sample in plan.samples[: plan.drawn]], plan.seed)
    if plan.harmless:
        texts = [text for text, _ in found.harmless]
        fields |= {"divergence": found.divergence, "over_refusal": harmless.over_refusal(texts)}
    if plan.attacked:
        fields |= results.attack(*slot_attack.outcome(plan.attacked, found.attacks, plan.seed))
    return fields
