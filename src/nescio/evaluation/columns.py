"""The columns of `results.json`, how tables print them, and the registry of the measures that fill them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from nescio.core.registry import Registry

Kind = Literal["share", "count", "number", "decimal", "interval", "p", "milliseconds"]
"""How a value is printed: as a percentage, a whole number, with two decimals or with one, and so on."""

Place = Literal["main", "main_if_measured", "summary", "detail"]
"""Which table has a column: the terminal's and the report's first, always or if measured; the terminal's, if measured;
the report's second alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the tables.

    Attributes:
        key: Field of a row of `results.json`. A field `KEY_ci95` is printed as its 95 % interval.
        header: Heading in plain words, in lower case.
        meaning: What the value says, as the end of a sentence: "share of the answers that …".
        kind: How a value is printed.
        place: Which tables have the column.
    """

    key: str
    header: str
    meaning: str
    kind: Kind = "share"
    place: Place = "summary"


class HasColumns(Protocol):
    """As much of a measure as tables need."""

    columns: ClassVar[Sequence[Column]]


measures: Registry[type[HasColumns]] = Registry("nescio.measures", "measure", "nescio.evaluation.measures")


def columns(*places: Place) -> list[Column]:
    """Return the columns of all measures in these places; in all places if none is named."""
    found = [column for name in measures for column in measures.get(name).columns]
    return [column for column in found if not places or column.place in places]
