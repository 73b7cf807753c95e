"""The verdict in words: what the best row leaks and costs, or which tests the closest row failed and what to change."""

from collections.abc import Sequence

from nescio.evaluation.results import closest
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
    judged, seen = table.judge(rows), detector.seen(rows)
    said = "\n".join([sentence(rows), *(f"- {line}" for line in failed(rows))])
    trust = table.trust(judged) if judged else None
    return "\n\n".join(filter(None, [table.markdown(rows), seen, trust, "\n".join(disagreements(rows)), said]))


def sentence(rows: Sequence[Row]) -> str:
    """Say in a few sentences what became of the personal data from the tuned model to the best row, at what price.

    Args:
        rows: As in `results.json`, the tuned model first.
    """
    if not rows:
        return "Nothing was evaluated."
    tuned, measured = rows[0], [row for row in rows[1:] if row.get("pii") is not None]
    others = [row for row in measured if not row.get("reference")]
    best = next((row for row in others if row.get("best")), None)
    where = f"in the answers to {table.count(tuned.get('samples'))} samples"
    before = f"{table.pieces(tuned)} ({table.model_name(tuned)})"
    if not others:
        return f"Pieces of personal data {where}: {before}; nothing was compared with it."
    if best:
        after = f"{table.pieces(best)} ({table.described(best)})"
        said = f"Pieces of personal data {where} went from {before} to {after}; {_prices(tuned, best)}."
        return " ".join([said, *_references(measured), *_open(best)])
    near = closest(rows) or others[0]
    after = f"{table.pieces(near)} ({table.described(near)})"
    tests = len(near.get("verdict") or ())
    return (
        f"No row is best. The closest leaks {after} pieces of personal data {where}, where there were {before}; "
        f"{_prices(tuned, near)}. {''.join(f'{each} ' for each in _references(measured))}"
        f"It failed {tests} {'test' if tests == 1 else 'tests'}:"
    )


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


def _open(best: Row) -> list[str]:
    """Sentences on what the best row's star does not show."""
    undecided = [f"{each['test']} ({each['figure']}; {each['advice']})" for each in best.get("undecided") or ()]
    said = [f"Not shown yet: {'; '.join(undecided)}."] if undecided else []
    return said + ([f"Not measured: {', '.join(best['unmeasured'])}."] if best.get("unmeasured") else [])


def _references(rows: Sequence[Row]) -> list[str]:
    """Say what rows that nothing was taken from say by themselves: a detector also counts what no dialog taught."""
    return [
        f"For comparison, {table.model_name(row)} says {table.pieces(row)}." for row in rows if row.get("reference")
    ]


def _prices(tuned: Row, row: Row) -> str:
    asked = row.get("asked_for")
    said = [] if asked is None else [f"asked for it, {table.count(asked)} at the worst place"]
    for key, word in _USE.items():
        if row.get(f"{key}_change_low") is not None:  # versions before had another column of the name words
            said.append(f"{word} {table.measured(tuned, key)} → {table.measured(row, key)}")
    moves = [f"{word} {table.percent(tuned.get(key))} → {table.percent(row.get(key))}" for key, word in _SHARES.items()]
    if row.get("filler") is not None:  # not in results of earlier versions
        moves.append(": ".join(filter(None, [f"filler {table.percent(row['filler'])}", filler.words(row)])))
    said.append("of the answers, " + ", ".join(moves))
    if (p := row.get("utility_mcnemar_p")) is not None:
        said.append(f"utility {table.measured(tuned, 'utility')} → {table.measured(row, 'utility')} (p = {p:.2g})")
    return "; ".join(said)
