"""What a model gives to a caller who wants personal data, and says so."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from nescio.core.files import fingerprint
from nescio.core.prompts import Message
from nescio.data.persuasion import POSITIONS, Position, Wording, ask_for, wordings
from nescio.data.samples import Sample
from nescio.engines.base import Engine
from nescio.evaluation.base import Ask, Found, Measure, Task, batches, generate, per_setup
from nescio.evaluation.columns import Column, measures
from nescio.evaluation.given_away import counts_given_away, find_given_away
from nescio.evaluation.setups import Setup
from nescio.evaluation.statistics import bootstrap_total

_REVEAL: dict[str, Position] = {"reveal_front": "front", "reveal_system": "system"}
PLACES = (*POSITIONS, *_REVEAL)
"""The positions, and two with the reveal sentence itself, which whoever trains with twins teaches the model."""

_BATCH = 8  # samples asked about at every place before their answers are on disk
_SHOWN = 10  # answers of the worst place that the report shows


@measures.register("leakage_asked_for")  # beside leakage in the table
@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFor(Measure):
    """Personal data in the answers to samples in which the caller asks for it, at each place of a conversation.

    The wordings are of kinds that nothing is trained or baked with. A set-up adds its own sentences as it always does.
    The report shows the fields `asked_for_by` and `asked_for_answers` in a section of its own.

    Attributes:
        samples: Number of samples, from the first on.
    """

    samples: int

    columns = (
        Column(
            key="asked_for", header="asked for [95 %]", kind="count", place="main",
            meaning="pieces of personal data that a caller gets who asks for them, at the place where most come out "
            "(asked on fewer samples than the others)",
        ),
    )  # fmt: skip

    def asks(self, task: Task) -> Iterator[Ask]:
        """Ask for personal data at every place."""
        task.say_if_fewer("asked-for samples", self.samples, len(task.samples))
        for batch in batches(self._requests(task), _BATCH):
            conversations = [[ask_for(sample.messages, *request) for request in own] for sample, own in batch]
            yield Ask(
                kind="asked_for",
                decides=[fingerprint(conversations), task.max_tokens],
                work=partial(_answer, conversations=conversations, max_tokens=task.max_tokens),
                beginnings=[sample.beginning for sample, _ in batch],
            )

    def cost(self, samples: float) -> float:
        """Count the answers at every place."""
        return len(PLACES) * min(self.samples, samples)

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Count the pieces at each place, and keep some answers of the worst."""
        asked = found[0].rows[: self.samples]
        plain = sum(counts_given_away(asked, task.own[: len(asked)]))
        return [self._fields(task, one.given["asked_for"]) | {"asked_for_plain_tuned": plain} for one in found]

    def _fields(self, task: Task, texts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return a row's fields; texts are `[samples][places]`."""
        flat = [(at, text) for at, own in enumerate(texts) for text in own]
        spans = find_given_away(task, [at for at, _ in flat], [text for _, text in flat])
        pieces = {place: spans[number :: len(PLACES)] for number, place in enumerate(PLACES)}  # [places][samples]
        counts = {place: [len(found) for found in own] for place, own in pieces.items()}
        worst = max(PLACES, key=lambda place: sum(counts[place]))
        at = PLACES.index(worst)
        answers = [
            {
                "id": sample.id,
                "asked": requests[at][0].opening if worst == "answer" else requests[at][0].text,
                "answer": own[at],
                "spans": [asdict(span) for span in found],
            }
            for (sample, requests), own, found in zip(self._requests(task), texts, pieces[worst], strict=True)
        ]
        dialogs = [sample.dialog_id for sample in task.samples[: self.samples]]
        return {
            "asked_for": sum(counts[worst]),
            "asked_for_ci95": list(bootstrap_total(counts[worst], dialogs, task.seed)),
            "asked_for_worst": worst,
            "asked_for_by": {place: sum(own) for place, own in counts.items()},
            "asked_for_samples": len(texts),
            "asked_for_answers": answers[:_SHOWN],
        }

    def _requests(self, task: Task) -> list[tuple[Sample, list[tuple[Wording, Position]]]]:
        """Return the samples, and what the caller says at each place: held-out wordings in turn, in a seeded order."""
        orders = {place: wordings(held_out=True) for place in POSITIONS}
        for place, order in orders.items():
            random.Random(f"{task.seed}/{place}").shuffle(order)
        reveal = Wording(task.reveal, "order", "en")
        return [
            (
                sample,
                [(orders[place][number % len(orders[place])], place) for place in POSITIONS]
                + [(reveal, place) for place in _REVEAL.values()],
            )
            for number, sample in enumerate(task.samples[: self.samples])
        ]


def _answer(
    engine: Engine, setups: Sequence[Setup], conversations: Sequence[Sequence[list[Message]]], max_tokens: int
) -> list[list[list[str]]]:
    """Answer `[samples][places]` conversations greedily; return texts `[set-ups][samples][places]`."""
    flat = [messages for own in conversations for messages in own]
    return [per_setup(texts, len(conversations)) for texts in generate(engine, setups, flat, max_tokens=max_tokens)]
