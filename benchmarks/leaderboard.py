"""`docs/leaderboard.md` and its figures from the comparisons in `benchmarks/results/`, and new ones into that folder.

nescio reproduce lume --quick
python benchmarks/leaderboard.py runs/lume/result.json
"""

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _history import commit, record

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, read_object, write_text
from nescio.reproduction.benchmarks import page

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks/results", ROOT / "docs/leaderboard.md"
TITLES = {"lume": "LUME", "tofu": "TOFU", "unlearnpii": "UnlearnPII", "knowundo": "KnowUnDo, privacy"}
HEAD = """# Leaderboard

Made by `python benchmarks/leaderboard.py` from the comparisons in `benchmarks/results/`; [how they are made, and how to
add a method](benchmarks.md). Each table is one comparison: same models, people, questions, grid and rule for all rows.
"""
EMPTY = """
No comparison is recorded yet: nothing below is measured. Each of these makes one, and can be stopped and started again:
"""


def take(paths: Sequence[Path]) -> None:
    """Copy results of `nescio reproduce` to the recorded ones, whole ones and quick ones apart."""
    for path in paths:
        result = read_object(path, "`nescio reproduce` writes it")
        if result.get("benchmark") not in TITLES:
            raise NescioError(f"{path}: benchmark: not one of {', '.join(TITLES)}; give a result.json of reproduce")
        record(
            RESULTS / f"{_name(result)}.jsonl", {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit()} | result
        )


def recorded() -> Iterator[dict[str, Any]]:
    """Yield the last recorded comparison of each benchmark, whole ones before quick ones."""
    for name in TITLES:
        for kind in ("full", "quick"):
            if (path := RESULTS / f"{name}-{kind}.jsonl").exists():
                *_, (_, last) = read_jsonl(path)
                yield last


def text(results: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    parts = [HEAD]
    for result in results:
        kind = ", quick" if result["quick"] else ""
        machine = result["machine"]
        made_on = f"{result['date']}, {machine['cores']} cores ({machine['cpu']}), nescio at {result['commit']}."
        title = f"{TITLES[result['benchmark']]}{kind}"
        drawn = f"![{title}: leak against usefulness]({_figure(result)})"
        parts.append(f"\n## {title}\n\n{page.table(result)}\n\n{drawn}\n\n{made_on}\n")
    missing = [name for name in TITLES if name not in {result["benchmark"] for result in results}]
    if missing:
        said = EMPTY if not results else "\nNot measured yet:\n"
        commands = "\n".join(f"nescio reproduce {name} --data FOLDER --quick" for name in missing)
        parts.append(f"{said}\n```sh\n{commands}\n```\n")
    return "".join(parts)


def _name(result: dict[str, Any]) -> str:
    return f"{result['benchmark']}-{'quick' if result['quick'] else 'full'}"


def _figure(result: dict[str, Any]) -> str:
    return f"images/{_name(result)}.svg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="result.json of a comparison, to be recorded")
    take(parser.parse_args().results)
    results = list(recorded())
    for result in results:
        path = PAGE.parent / _figure(result)
        path.parent.mkdir(exist_ok=True)
        page.draw(result, path)
    write_text(PAGE, text(results))
    print(PAGE)


if __name__ == "__main__":
    main()
