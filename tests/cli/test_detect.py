"""The commands that look for personal data: what they print, write and answer."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.pii.registry import DETECTORS


class Words:
    """Finds Ann and Bob with their surnames, and telephone numbers."""

    name = "words"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        patterns = {"PERSON": r"(?:Ann|Bob) [A-Z][a-z]+", "PHONE": r"\d{3}-\d{4}"}
        return [
            [Span(*m.span(), label, m[0]) for label, p in patterns.items() for m in re.finditer(p, text)]
            for text in texts
        ]


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    "words" in DETECTORS  # noqa: B015  # the registry reads its modules at the first look-up
    monkeypatch.setitem(DETECTORS._items, "words", lambda model, ignore: Words())
    monkeypatch.chdir(tmp_path)


def nescio(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [*arguments, "--detector", "words"], input=stdin)


def test_scan_counts_lists_and_marks() -> None:
    text = "Call Ann Lee\nat 555-0100 or\n\nBob Ray."
    Path("a.txt").write_text(text)
    Path("b.jsonl").write_text('{"text": "Ann Lee"}\n')
    table = nescio("scan", "a.txt", "b.jsonl").output
    assert re.search(r"person +PERSON +3\n", table) and re.search(r"total +4\nBy the detector words", table)
    assert json.loads(nescio("scan", "-", "--json", stdin=text).output) == {
        "total": 3,
        "labels": {"PERSON": 2, "PHONE": 1},
    }
    rows = list(csv.reader(io.StringIO(nescio("scan", "a.txt", "--csv").output)))
    assert rows[0] == ["place", "start", "end", "type", "label", "text"]
    assert rows[2] == ["a.txt:2", "16", "24", "phone", "PHONE", "555-0100"] and rows[3][0] == "a.txt:4"
    marked = nescio("scan", "-", "--marks", stdin='"Ask Ann Lee."\n"Nobody."\n').output
    assert marked == "stdin.jsonl:1\nAsk [[person:Ann Lee]].\n\n"


def test_fail_on_is_for_ci() -> None:
    assert nescio("scan", "-", "--fail-on", "phone,card", stdin="Ann Lee").exit_code == 0
    failed = nescio("scan", "-", "--fail-on", "card, person", stdin="Ann Lee")
    assert failed.exit_code == 1 and "found 1 person" in failed.output
    never = CliRunner().invoke(app, ["scan", "-", "--fail-on", "age,person,date"], input="Ann Lee is 34 years old.")
    assert isinstance(never.exception, NescioError) and "default counts no age, date" in str(never.exception)
    unknown = nescio("scan", "-", "--fail-on", "name", stdin="Ann Lee")
    assert isinstance(unknown.exception, NescioError) and "--fail-on: 'name' is not a type" in str(unknown.exception)
    unset = nescio("scan", "-", "--fail-on", "", stdin="Ann Lee")
    assert isinstance(unset.exception, NescioError) and "--fail-on: '' is not a type" in str(unset.exception)
    both = nescio("scan", "-", "--json", "--csv", stdin="")
    assert isinstance(both.exception, NescioError)


def test_standard_input_has_a_name_in_errors() -> None:
    assert nescio("scan", "-", "--json", stdin="[" * 50_000).exit_code == 0, "too deep to be JSON, it is text"
    wrong = nescio("scan", "-", stdin='{"x": 1}\n')
    assert str(wrong.exception).startswith("stdin.jsonl:1: neither a text")


def test_a_sample_is_corrected_by_hand_and_checked() -> None:
    Path("a.jsonl").write_text("".join(f'"Text {n}: Ann Lee, Bob, 555-010{n}"\n' for n in range(9)))
    drawn = nescio("detect", "check", "a.jsonl", "--sample", "4")
    assert "to_correct.txt: 4 texts with marks" in drawn.output
    marks = Path("to_correct.txt").read_text()
    assert marks.count("[[person:Ann Lee]], Bob, [[phone:555-010") == 4
    again = nescio("detect", "check", "a.jsonl", "--sample", "4")
    assert "exists already" in str(again.exception) and Path("to_correct.txt").read_text() == marks
    Path("to_correct.txt").write_text(marks.replace("Bob", "[[person:Bob]]").replace("[[phone:555-0103]]", "555-0103"))
    row = json.loads(nescio("detect", "check", "to_correct.txt", "--json").output)
    assert (row["texts"], row["types"]["person"]["pieces"], row["types"]["person"]["recall"]) == (4, 8, 0.5)
    assert row["types"]["phone"]["precision"] == (0.75 if "555-0103" in marks else 1)
    table = nescio("detect", "check", "to_correct.txt").output
    assert re.search(r"\| person +\| +8 \| +50 % \[22, 78\] \|", table)
    assert "[[Bob]]" in table and "Missed, 4 in all" in table


def test_what_is_wrong_with_labels_is_said() -> None:
    Path("a.jsonl").write_text('{"text": "Ann", "spans": [{"start": 0, "end": 9, "label": "person"}]}')
    assert "a.jsonl:1: spans[0]: 0 to 9" in str(nescio("detect", "check", "a.jsonl").exception)
    Path("empty.jsonl").write_text("")
    assert "empty.jsonl: holds no texts" in str(nescio("detect", "check", "empty.jsonl").exception)


def test_scrub_says_what_it_did() -> None:
    Path("a.txt").write_text("Ask Ann Lee. Ann Lee: 555-0100")
    done = nescio("scrub", "a.txt", "b.txt")
    assert Path("b.txt").read_text() == "Ask [PERSON]. [PERSON]: [PHONE]"
    assert "b.txt: 3 pieces replaced, in 1 file\nWhat words does not see is still there" in done.output
    nescio("scrub", "a.txt", "c.txt", "--stand-ins", "--key", "key")
    nescio("scrub", "a.txt", "d.txt", "--stand-ins", "--key", "key")
    assert Path("c.txt").read_text() == Path("d.txt").read_text()
    assert re.fullmatch(r"Ask ([A-Z]\w+ [A-Z]\w+)\. \1: \d{3}-\d{4}", Path("c.txt").read_text())
    assert Path("key").stat().st_mode & 0o777 == 0o600
    assert "use it with --stand-ins" in str(nescio("scrub", "a.txt", "e.txt", "--key", "key").exception)
