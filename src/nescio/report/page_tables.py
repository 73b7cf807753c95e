"""The report's tables after the first: what each row costs, what comes out by place or by label, as text."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from nescio.report import exports, table
from nescio.report.disagreement import disagreements
from nescio.report.filler import favourites
from nescio.report.spans import parts
from nescio.report.table import Row

_PLACES = {
    "front": "before the message", "middle": "within it", "end": "after it", "earlier": "in an earlier turn",
    "system": "in the system message", "second_system": "as a second system message",
    "answer": "as the answer’s beginning", "reveal_front": "reveal sentence before the message",
    "reveal_system": "reveal sentence in the system message",
}  # fmt: skip


def main(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the first table: personal data, and whether the answers are still answers."""
    return _columns(rows, table.measured_columns(rows, "main", "main_if_measured"))


def costs(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the second table: a column for each other measure that some row has."""
    kinds = {row["utility_kind"] for row in rows if row.get("utility_kind")}
    judge = table.judge(rows)
    notes = [f"The questions are {', '.join(sorted(kinds))}."] if kinds else []
    notes += [table.trust(judge)] if judge else []
    notes += disagreements(rows) + favourites(rows)
    return _columns(rows, table.measured_columns(rows, "summary", "detail")) | {"notes": " ".join(notes)}


def checked(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the table of exports that answered on their own engines, beside their adapters."""
    return _columns(rows, [*table.measured_columns(rows, "main", "main_if_measured"), *exports.COLUMNS])


def _columns(rows: Sequence[Row], columns: Sequence[Any]) -> dict[str, Any]:
    """Headings, cells by row, and what the columns mean."""
    return {
        "fields": [column.key for column in columns],
        "headers": [column.header[:1].upper() + column.header[1:] for column in columns],
        "unusable": [table.is_unusable(column, rows) for column in columns],
        "cells": [[table.cell(row, column) for column in columns] for row in rows],
        "meanings": [(column.header.partition(" [")[0], column.meaning) for column in columns],
        "has_intervals": any("[95 %]" in column.header for column in columns),
    }


def labels(rows: Sequence[Row]) -> dict[str, Any]:
    """Return personal data by label: the labels, the most frequent first, and their counts in each row.

    A row whose labels were not counted has dashes, not zeros.
    """
    totals = Counter[str]()
    for row in rows:
        totals.update(row.get("labels") or {})
    names = [name for name, _ in totals.most_common()]
    return {"names": names, "cells": [[_counted(row.get("labels"), name) for name in names] for row in rows]}


def _counted(labels: dict[str, int] | None, name: str) -> str:
    return table.MISSING if labels is None else str(labels.get(name, 0))


def attacks(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the slot attack by slot type: the types, and the outcome in each row."""
    found = [row.get("attack_labels") or {} for row in rows]
    names = sorted({name for own in found for name in own})
    return {"names": names, "cells": [[_attacked(own.get(name)) for name in names] for own in found]}


def _attacked(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return table.MISSING
    share = table.percent(outcome["found"] / outcome["slots"])
    return f"{share} of {outcome['slots']} {table.share_interval(outcome['ci95'])}"


def asked_for(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what callers get who ask for it: the places, the pieces at each in each row, and answers at the worst.

    The answers are of the rows that were asked, those that give most first.
    """
    asked = [row for row in rows if row.get("asked_for_by")]
    names = list(dict.fromkeys(name for row in asked for name in row["asked_for_by"]))
    answers = [
        {
            "row": row,
            "place": _PLACES.get(row.get("asked_for_worst") or "", row.get("asked_for_worst")),
            "answers": [each | {"parts": parts(each["answer"], each["spans"])} for each in row["asked_for_answers"]],
        }
        for row in sorted(asked, key=lambda row: -(row.get("asked_for") or 0))
        if row.get("asked_for_answers")
    ]
    return {
        "names": [_PLACES.get(name, name) for name in names],
        "cells": [[table.count((row.get("asked_for_by") or {}).get(name)) for name in names] for row in rows],
        "samples": asked[0].get("asked_for_samples") if asked else None,
        "plain": asked[0].get("asked_for_plain_tuned") if asked else None,
        "answers": answers,
    }


def key_search(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the best sentences that a search from outside found for each row, those that give most first."""
    searched = [row for row in rows if row.get("key_search_sentences")]
    searched.sort(key=lambda row: -(row.get("key_search") or 0))
    return {
        "rows": [{"row": row, "sentences": row["key_search_sentences"]} for row in searched],
        "samples": searched[0].get("key_search_samples") if searched else None,
        "plain": searched[0].get("key_search_plain_tuned") if searched else None,
    }


def under_attack(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what comes out of each row under each attack, and answers to the attack that finds most.

    The attacks that find most, in any row but the first, come first.
    """
    own = [row.get("attacked") or {} for row in rows]
    titles = {name: found["title"] for each in own for name, found in each.items()}
    most = {name: max([each.get(name, {}).get("memorised") or 0 for each in own[1:]], default=0) for name in titles}
    names = sorted(titles, key=lambda name: -most[name])
    examples = [
        {"row": row, "title": titles.get(row["attacked_worst"], row["attacked_worst"]), "answers": _attack_parts(row)}
        for row in sorted(rows, key=lambda row: -(row.get("attacked_most") or 0))
        if row.get("attacked_examples")
    ]
    return {
        "names": [titles[name] for name in names],
        "cells": [[_under(each.get(name)) for name in names] for each in own],
        "facts": max((found.get("facts") or 0 for each in own for found in each.values()), default=0),
        "examples": examples,
    }


def _under(found: dict[str, Any] | None) -> str:
    if found is None:
        return table.MISSING
    if found.get("share") is None:
        return "n/a"
    return f"{table.measured(found, 'share')}, guessed {table.percent(found['guessed'])}"


def _attack_parts(row: Row) -> list[dict[str, Any]]:
    """Cut the answers of an attack at what they say of the value."""
    return [
        {
            "id": f"{each['person']}, {each['what']}",
            "asked": each["asked"][-1]["content"],
            "parts": parts(each["answer"], [{"start": a, "end": b, "label": "value"} for a, b in each["places"]]),
        }
        for each in row["attacked_examples"]
    ]
