"""The people of a benchmark: whom a comparison takes, who is set aside, and with whom settings are chosen."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import itemgetter

from nescio.core.errors import NescioError
from nescio.core.text import occurrences
from nescio.data.benchmarks import Question
from nescio.pii.base import Detector

_ASIDE = 0.1  # share of the retain half's people who are set aside where the benchmark has nobody outside
_CHOOSING = 3  # every third person of a half is for choosing settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Questions of a comparison.

    Attributes:
        forget: About people to forget.
        retain: About people to keep.
        outside: About people whom no model was trained on.
        general: About nobody; few benchmarks have any.
    """

    forget: list[Question]
    retain: list[Question]
    outside: list[Question]
    general: list[Question]

    @property
    def learned(self) -> list[Question]:
        """What the tuned model is trained on."""
        return [*self.forget, *self.retain]

    def side(self, choosing: bool) -> "Parts":
        """Return the part with which settings are chosen, or the rest, with which the chosen ones are measured.

        Raises:
            NescioError: No answer of it holds personal data.
        """
        halves = {name: _third(getattr(self, name), choosing) for name in ("forget", "retain")}
        _check_values(halves["forget"])
        return replace(self, **halves)


def parts_of(
    questions: Sequence[Question],
    *,
    count: int | None,
    per_person: int | None,
    variants: int | None,
    seed: int,
    detector: Detector,
) -> Parts:
    """Choose people of each half, and set some aside.

    Args:
        questions: A benchmark.
        count: About how many of each half: people are taken until they have as many; None: all of them.
        per_person: How many about each; None: all of them.
        variants: How many paraphrases and wrong answers of each; None: all of them.
        seed: Seed of the choice.
        detector: Finds the personal data in answers whose values the benchmark does not record.

    Raises:
        NescioError: A half has too few people.
    """
    by_side = {side: [q for q in questions if q.side == side] for side in ("forget", "retain", "outside", "general")}
    # 1) whom the models are trained on, and in the same order who is set aside
    forget, retain = (_people(by_side[side], seed) for side in ("forget", "retain"))
    outside = _people(by_side["outside"], seed)
    if not outside:
        aside = max(1, round(_ASIDE * len(retain)))
        retain, outside = retain[:-aside], retain[-aside:]
    for side, own in (("forget", forget), ("retain", retain)):
        if len(own) < _CHOOSING:
            raise NescioError(f"{side}: {len(own)} people or documents are too few to compare on; give the whole set")
    # 2) their questions, with what is personal in the answers, and some of those that are about nobody
    few = None if count is None else max(1, count // 2)
    chosen = {
        side: _with_values([_cut(each, variants) for each in _first(own, wanted, per_person)], detector)
        for side, own, wanted in (("forget", forget, count), ("retain", retain, count), ("outside", outside, few))
    }
    general = [_cut(each, variants) for each in by_side["general"]]
    if few is not None and len(general) > few:
        general = random.Random(seed).sample(general, few)
    _check_values(chosen["forget"])
    return Parts(**chosen, general=general)


def _check_values(forget: Sequence[Question]) -> None:
    if not any(question.values for question in forget):
        raise NescioError(
            f"forget: of {len(forget)} answers none holds personal data, for the benchmark or the detector; use "
            "another detector"
        )


def _cut(question: Question, variants: int | None) -> Question:
    return replace(question, paraphrases=question.paraphrases[:variants], wrong=question.wrong[:variants])


def _people(questions: Sequence[Question], seed: int) -> list[list[Question]]:
    """Return the questions of each person, in a seeded order of which any part has each task in proportion."""
    by_task: dict[str, dict[str, list[Question]]] = {}
    for question in questions:
        by_task.setdefault(question.task, {}).setdefault(question.subject, []).append(question)
    places: list[tuple[float, list[Question]]] = []
    for task in sorted(by_task):
        own = list(by_task[task].values())
        random.Random(f"{seed}/{task}").shuffle(own)
        places += [((number + 0.5) / len(own), person) for number, person in enumerate(own)]
    return [person for _, person in sorted(places, key=itemgetter(0))]


def _first(people: Sequence[list[Question]], count: int | None, per_person: int | None) -> list[Question]:
    """Return the questions of the first people who have as many together."""
    cut = [own[:per_person] for own in people]
    before = accumulate(map(len, cut), initial=0)
    return [each for own, so_far in zip(cut, before, strict=False) if count is None or so_far < count for each in own]


def _third(questions: Sequence[Question], choosing: bool) -> list[Question]:
    tasks: dict[str, str] = {}
    for question in questions:
        tasks.setdefault(question.subject, question.task)
    # By task: in the order of `_people`, tasks take turns, and every third person may be of the same one.
    own = set(sorted(tasks, key=lambda subject: tasks[subject])[::_CHOOSING])
    return [question for question in questions if (question.subject in own) == choosing]


def _with_values(questions: Sequence[Question], detector: Detector) -> list[Question]:
    """Fill in what the detector finds in an answer and the question does not say, where no value is recorded."""
    found = detector.find([question.answer for question in questions])
    return [
        question
        if question.values
        else replace(
            question, values=tuple(span.text for span in spans if not occurrences(question.question, span.text))
        )
        for question, spans in zip(questions, found, strict=True)
    ]
