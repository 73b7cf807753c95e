"""How much a comparison takes of a benchmark, and what it tries: the whole table, and a quick look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is compared.

    Attributes:
        questions: Number of questions of each half, about: whole people are taken; None: all.
        per_person: Questions about a person; None: all.
        variants: Paraphrases and wrong answers of each; None: all.
        words: Plain questions that are measured.
        choosing_words: Others, with which settings are chosen.
        draws: Sampled answers to each question of the forget half.
        rates: Learning rates, as factors of the recipe's.
        all_epochs: Whether every epoch is a setting; else the last one alone.
        seeds: Trainings of the chosen setting.
    """

    questions: int | None = None
    per_person: int | None = None
    variants: int | None = None
    words: int = 200
    choosing_words: int = 60
    draws: int = 4
    rates: tuple[float, ...] = (1 / 3, 1.0, 3.0)
    all_epochs: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def chooses(self) -> bool:
        """Whether there are settings to choose among."""
        return len(self.rates) > 1 or self.all_epochs


FULL = Size()
QUICK = Size(
    questions=24, per_person=4, variants=2, words=100, choosing_words=0, draws=0, rates=(1.0,), all_epochs=False,
    seeds=(0,),
)  # fmt: skip
