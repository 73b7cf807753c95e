"""The verdict in words: what the best row leaks and costs, or which tests the closest row failed and what to change."""

from collections.abc import Iterator, Sequence

from nescio.evaluation.results import closest, leaked
from nescio.report import detector, filler, table
from nescio.report.disagreement import disagreements
from nescio.report.table import Row

_SHARES = {"degenerate": "degenerate", "on_topic": "on-topic", "canned": "canned"}
_USE = {"words": "right in words", "everyday": "fine everyday answers"}


def summary(rows: Sequence[Row]) -> str:
    """Return what a command prints of a table: the table, what its detector sees, the judge, and the verdict.

    Before the verdict stands a line for each row of which words and another measure say different things.

    Args:
        rows: As in `results.json`.
    """
    judged, seen, wrong = table.judge(rows), detector.seen(rows), failed(rows)
    said = "\n".join([sentence(rows), *(f"- {line}" for line in details(rows))])
    if wrong:
        tests = f"\n\nIt failed {len(wrong)} {'test' if len(wrong) == 1 else 'tests'}:"
        said += "\n".join([tests, *(f"- {line}" for line in wrong)])
    trust = table.trust(judged) if judged else None
    return "\n\n".join(filter(None, [table.markdown(rows), seen, trust, "\n".join(disagreements(rows)), said]))


def sentence(rows: Sequence[Row]) -> str:
    """Say what became of the personal data, from the tuned model to the best row or the closest.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    if not rows:
        return "Nothing was evaluated."
    tuned, chosen = rows[0], chosen_row(rows)
    where = f"in the answers to {table.count(tuned.get('samples'))} samples"
    before = f"{table.pieces(tuned)} ({table.model_name(tuned)})"
    if chosen is None:
        return f"Pieces of personal data {where}: {before}; nothing was compared with it."
    after = f"{table.pieces(chosen)} ({table.described(chosen)})"
    if chosen.get("best"):
        return f"Pieces of personal data {where} went from {before} to {after}."
    if leaked(tuned) == 0:
        return f"No row can be best: the tuned model gives nothing away {where}, so there is nothing to show."
    return f"No row is best. The closest leaks {after} pieces of personal data {where}, where there were {before}."


def chosen_row(rows: Sequence[Row]) -> Row | None:
    """Return the row that the verdict is about: the best one, or else the closest; None: there is only the first.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    others = [row for row in _measured(rows) if not row.get("reference")]
    best = next((row for row in others if row.get("best")), None)
    return best or closest(rows) or next(iter(others), None)


def details(rows: Sequence[Row]) -> list[str]:
    """Return the lines below the sentence: what it cost, reference rows, and what was not shown or measured.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    chosen = chosen_row(rows)
    if chosen is None:
        return []
    said = list(_prices(rows[0], chosen))
    # A detector also counts what no dialog taught.
    said += [
        f"for comparison, {table.model_name(row)} says {table.pieces(row)}"
        for row in _measured(rows)
        if row.get("reference")
    ]
    undecided = [f"{each['test']} ({each['figure']}; {each['advice']})" for each in chosen.get("undecided") or ()]
    if chosen.get("best") and undecided:
        said.append(f"not shown yet: {'; '.join(undecided)}")
    if chosen.get("best") and chosen.get("unmeasured"):
        said.append(f"not measured: {', '.join(chosen['unmeasured'])}")
    return said


def failed(rows: Sequence[Row]) -> list[str]:
    """Return a line for each test that the closest row failed, with its figure and advice; none where a row is best.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    near = None if any(row.get("best") for row in rows) else closest(rows)
    found = [] if near is None else near.get("verdict") or []
    return [
        f"{outcome['test']}: {outcome['figure']} (limit: {outcome['limit']}); {outcome['advice']}" for outcome in found
    ]


def _measured(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows[1:] if row.get("pii") is not None]


def _prices(tuned: Row, row: Row) -> Iterator[str]:
    if (asked := row.get("asked_for")) is not None:
        yield f"asked for it: {table.count(asked)} at the worst place"
    for key, word in _USE.items():
        if row.get(f"{key}_change_low") is not None:  # versions before had another column of the name words
            yield f"{word}: {table.measured(tuned, key)} → {table.measured(row, key)}"
    moves = [f"{word} {table.percent(tuned.get(key))} → {table.percent(row.get(key))}" for key, word in _SHARES.items()]
    if row.get("filler") is not None:  # not in results of earlier versions
        moves.append(": ".join(filter(None, [f"filler {table.percent(row['filler'])}", filler.words(row)])))
    yield f"of the answers: {', '.join(moves)}"
    if (p := row.get("utility_mcnemar_p")) is not None:
        yield f"utility: {table.measured(tuned, 'utility')} → {table.measured(row, 'utility')} (p = {p:.2g})"
