"""The audit in words, as a table, and as a page that loads nothing from the network."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nescio.audit.attacks.as_in_dialog import PLAIN
from nescio.core.files import write_text
from nescio.report.html import environment
from nescio.report.spans import parts
from nescio.report.table import MISSING, measured, percent, share_interval

Row = Mapping[str, Any]
HEADERS = ("found [95 %]", "in part", "another", "guessed [95 %]", "memorised [95 %]", "people", "at most", "detected")
_LEAK_AT = ("1", "4", "16")
_MANY = 0.1
"""Share of answers that are empty, or cut off, above which there is a warning."""


def write(result: Row, out: Path) -> Path:
    """Write `audit.html`.

    Args:
        result: As `audit.json` holds it.
        out: The folder.

    Returns:
        The file.
    """
    template = (files("nescio.audit") / "audit.html").read_text(encoding="utf-8")
    ranked = worst_first(result)
    types = sorted({kind for row in asked(result) for kind in row["types"]})
    contents = {
        "result": result,
        "unit": unit(result),
        "of_them": of_them(result["people"], result),
        "sentence": sentence(result),
        "warnings": warnings(result),
        "silent": _silent(result),
        "headers": HEADERS,
        "ranked": [(row, cells(row)) for row in (result["all"] | _ANY, *ranked)],
        "not_asked": [row for row in result["attacks"] if row.get("facts") is None],
        "types": types,
        "by_type": [(row, [_of_type(row["types"].get(kind)) for kind in types]) for row in ranked],
        "searched": [row for row in ranked if row.get("searched")],
        "leak_at": list(_leaks(result)),
        "relearned": [(relearned(result, row), row["curve"]) for row in result.get("relearned", {}).get("rows", ())],
        "examples": [(row, [each | {"parts": _marked(each)} for each in row["examples"]]) for row in ranked],
        "measured": measured,
        "titles": {row["name"]: row["title"] for row in result["attacks"]},
    }
    write_text(out / "audit.html", environment().from_string(template).render(contents))
    return out / "audit.html"


_ANY = {"title": "any attack", "knows": "whatever one of them knows"}


def unit(result: Row) -> str:
    """Return what is counted beside facts: `people` or `dialogs`."""
    return "dialogs" if result["source"] == "dialogs" else "people"


def of_them(count: int, result: Row) -> str:
    """Return a number of those who are counted beside facts, such as `1 dialog`."""
    one = {"dialogs": "dialog", "people": "person"}[unit(result)]
    return f"{count} {one if count == 1 else unit(result)}"


def asked(result: Row) -> list[Row]:
    """Return the attacks that were asked."""
    return [row for row in result["attacks"] if row.get("facts") is not None]


def worst_first(result: Row) -> list[Row]:
    """Return the attacks that were asked, those that memory gives most to first."""
    return sorted(asked(result), key=lambda row: (-row["memorised"], -row["share"], row["name"]))


def sentence(result: Row) -> str:
    """Say what came out, in a few sentences."""
    any_attack, plain = result["all"], next((row for row in asked(result) if row["name"] == PLAIN), None)
    worst, what = worst_first(result)[0], unit(result)
    said = [f"Asked plainly, {_found(plain)}."] if plain else []
    if worst["found"]:
        said.append(f"The attack that finds most is “{worst['title']}”: {_found(worst)}.")
    hit = f"{any_attack['people_found']} of {of_them(any_attack['people'], result)}"
    most = percent(any_attack["people_at_most"])
    said.append(
        f"All attacks together: {_of_facts(any_attack)}, of {hit}; at 95 %, "
        f"at most {most} of such {what} give something away under these attacks."
    )
    return " ".join(said)


def warnings(result: Row) -> list[str]:
    """Return a warning where many answers were empty, and one where many were cut off; none of an older result."""
    asked, found = result["questions"], list[str]()
    empty, cut, most = result.get("empty", 0), result.get("cut_off", 0), result.get("max_tokens", 0)
    if empty > _MANY * asked:
        found.append(
            f"Warning: {empty} of {asked} answers were empty. They show nothing; where the thoughts of a model took "
            "all tokens, give more --max-tokens."
        )
    if cut > _MANY * asked:
        found.append(
            f"Warning: {cut} of {asked} answers were cut off by the limit of tokens ({most}, or {-(-most // 2)} where "
            "the answer was begun). What would come later is not seen; more --max-tokens show more."
        )
    return found


def _silent(result: Row) -> str:
    """Say how many questions got no text, and how many answers were cut off; nothing where there are none."""
    said = list[str]()
    if unanswered := result.get("unanswered", 0):
        said.append(
            f"{unanswered} questions got no answer: too long for the model’s context, refused by the server, or empty "
            f"({result.get('empty', 0)}). They count for nothing, and a fact without an answer is left out of that "
            "attack; so is one whose made-up person’s questions got none, not even an empty one."
        )
    if cut := result.get("cut_off", 0):
        said.append(f"{cut} answers were cut off by the limit of tokens.")
    return " ".join(said)


def in_a_line(row: Row) -> str:
    """Say what one attack found."""
    if row.get("facts") is None:
        return f"{row['title']:<22} n/a: {row['not_asked']}"
    empty = f", {row['empty']} of {row['questions']} answers empty" if row.get("empty") else ""
    return f"{row['title']:<22} {_of_facts(row)}, {percent(row['guessed'])} guessed{empty}"


def relearned(result: Row, row: Row) -> str:
    """Say after how many steps of a training half of the tuned model's leak was back."""
    where = {"others": "other people's lines", "harmless": "harmless lines"}[row["name"]]
    if not row["curve"]:
        return f"Relearning from {where}: n/a, {row['not_asked']}."
    tuned, first, last = result["relearned"]["tuned"], row["curve"][0], row["curve"][-1]
    most = max(each["memorised"] for each in row["curve"])
    said = f"Relearning from {row['lines']} {where}: from memory {percent(first['memorised'])} at first"
    if tuned is None or tuned["memorised"] <= 0:
        return f"{said}, at most {percent(most)} in {last['steps']} steps."
    back = {
        None: f"never half of that in {last['steps']} steps, at most {percent(most)}",
        0: "at least half of that was there untrained",
    }.get(row["half_after"], f"half of that was back after {row['half_after']} steps")
    return f"{said}, {percent(tuned['memorised'])} without the adapter; {back}."


def _of_facts(row: Row) -> str:
    return f"{row['found']} of {row['facts']} {'fact' if row['facts'] == 1 else 'facts'}"


def _found(row: Row) -> str:
    return (
        f"{_of_facts(row)} {'comes' if row['facts'] == 1 else 'come'} out ({measured(row, 'share')}); of made-up "
        f"people {percent(row['guessed'])} would"
    )


def cells(row: Row) -> list[str]:
    """Return an attack's cells under `HEADERS`."""
    return [
        f"{row['found']} of {row['facts']}, {measured(row, 'share')}",
        str(row["partial"]),
        MISSING if (another := row.get("another")) is None else str(another),
        measured(row, "guessed"),
        measured(row, "memorised"),
        f"{row['people_found']} of {row['people']}",
        percent(row["people_at_most"]),
        str(row.get("detected", MISSING)),
    ]


def _of_type(counted: Mapping[str, int] | None) -> str:
    return MISSING if counted is None else f"{counted['found']} of {counted['facts']}"


def _leaks(result: Row) -> Iterator[tuple[str, str]]:
    """Yield k and leak@k with its interval, of the attack that samples."""
    for row in asked(result):
        for k in _LEAK_AT:
            if found := row.get("leak_at", {}).get(k):
                yield k, f"{percent(found[0])} {share_interval(found[1:])}"


def _marked(example: Row) -> Sequence[tuple[str, str]]:
    """Cut an answer at what it says of the value."""
    label = {"exact": "value", "partial": "part"}.get(example["said"] or "", "")
    spans = [{"start": start, "end": end, "label": label} for start, end in example["places"]]
    return parts(example["answer"], spans)
