"""What is found or recorded is gone from what is written; everything else stays as it was."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.data.read_dialogs import read_dialogs
from nescio.data.scrub import Scrubber
from nescio.data.synthetic import generate
from nescio.pii.base import Span
from nescio.pii.stand_ins import StandIns

KEY = b"k" * 32


class Anns:
    """Finds the word Ann."""

    name = "anns"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[Span(m.start(), m.end(), "PERSON", m[0]) for m in re.finditer(r"\bAnn\b", text)] for text in texts]


def test_rows_keep_all_but_what_is_found(tmp_path: Path) -> None:
    rows = ["Ann!", {"id": "Ann", "text": "Ask Ann.", "n": 3, "more": {"by": ["Ann", None]}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scrubber = Scrubber(Anns())
    assert scrubber.files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print) == 1
    assert [row for _, row in read_jsonl(tmp_path / "b.jsonl")] == [
        "[PERSON]!",
        {"id": "Ann", "text": "Ask [PERSON].", "n": 3, "more": {"by": ["[PERSON]", None]}},
    ]
    assert scrubber.pieces == 3


def test_numbers_and_ids_below_the_top_are_read_too(tmp_path: Path) -> None:
    class Digits(Anns):
        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            return [[Span(0, len(text), "PHONE", text)] if re.fullmatch(r"\d{10}", text) else [] for text in texts]

    row = {
        "id": 4155550123,
        "text": "hi",
        "phone": 4155550123,
        "at": {"id": "4155550123"},
        "n": 2,
        "share": 0.5,
        "is": True,
    }
    write_jsonl(tmp_path / "a.jsonl", [row])
    Scrubber(Digits()).files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    ((_, scrubbed),) = read_jsonl(tmp_path / "b.jsonl")
    assert scrubbed == row | {"phone": "[PHONE]", "at": {"id": "[PHONE]"}}


def test_keys_below_the_top_are_texts_too(tmp_path: Path) -> None:
    row = {"text": "hi", "Ann": 1, "by": {"Ann": "ok", "n": [{"Ann Lee": 2}], " Ann": 3, "Ann ": 4}}
    write_jsonl(tmp_path / "a.jsonl", [row, row | {"id": {"Ann": 1}}])
    scrubber = Scrubber(Anns())
    scrubber.files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    by = {"[PERSON]": "ok", "n": [{"[PERSON] Lee": 2}], " [PERSON]": 3, "[PERSON] ": 4}
    scrubbed = {"text": "hi", "Ann": 1, "by": by}
    assert [row for _, row in read_jsonl(tmp_path / "b.jsonl")] == [scrubbed, scrubbed | {"id": {"[PERSON]": 1}}]
    assert scrubber.pieces == 9


def test_keys_that_become_the_same_stay_apart(tmp_path: Path) -> None:
    class Names(Anns):
        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            return [[Span(0, 3, "PERSON", text)] if text in ("Ann", "Bob") else [] for text in texts]

    write_jsonl(tmp_path / "a.jsonl", [{"text": "hi", "by": {"Ann": 1, "[PERSON] 3": 2, "Bob": 3}}])
    Scrubber(Names()).files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    ((_, scrubbed),) = read_jsonl(tmp_path / "b.jsonl")
    assert scrubbed["by"] == {"[PERSON]": 1, "[PERSON] 3": 2, "[PERSON] 4": 3}


def test_a_slot_in_capitals_or_small_letters_is_the_slot(tmp_path: Path) -> None:
    said = {"role": "user", "content": "i am jane doe, or JANE DOE, of ROSE, where the rose grows"}
    rows = [
        {
            "messages": [said, {"role": "assistant", "content": "Hello Jane Doe from Rose!"}],
            "pii": {"NAME": "Jane Doe", "CITY": "Rose"},
        }
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    Scrubber(Anns()).files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    (dialog,) = read_dialogs(tmp_path / "b.jsonl")
    assert dialog.messages[0]["content"] == "i am [NAME], or [NAME], of [CITY], where the rose grows"


def test_a_slot_that_is_said_in_other_capitals_keeps_its_stand_in(tmp_path: Path) -> None:
    said = {"role": "user", "content": "I AM JANE DOE, of ROSE."}
    rows = [
        {
            "messages": [said, {"role": "assistant", "content": "Hello, jane doe! Jane?"}],
            "pii": {"NAME-1": "Jane Doe", "NAME-2": "Jane", "LOC-1": "rose"},
        }
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    Scrubber(Anns(), StandIns(KEY)).files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    (dialog,) = read_dialogs(tmp_path / "b.jsonl")
    assert dialog.pii is not None and list(dialog.pii) == ["NAME-1", "NAME-2", "LOC-1"]
    name, first, _ = dialog.pii.values()
    assert dialog.messages[0]["content"].startswith(f"I AM {name.upper()}, of ")
    assert dialog.messages[1]["content"] == f"Hello, {name.lower()}! {first}?" and name.startswith(f"{first} ")


def test_plain_text_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Ann\r\n\r\n é Ann \n\n".encode())
    Scrubber(Anns()).files(tmp_path / "a.txt", tmp_path / "b.txt", print)
    assert (tmp_path / "b.txt").read_bytes() == "[PERSON]\r\n\r\n é [PERSON] \n\n".encode()


def test_recorded_slots_go_whatever_the_detector_says(tmp_path: Path) -> None:
    rows = generate(8, seed=2)
    write_jsonl(tmp_path / "in/a.jsonl", rows)
    Scrubber(Anns(), StandIns(KEY)).files(tmp_path / "in", tmp_path / "out", print)
    Scrubber(Anns()).files(tmp_path / "in/a.jsonl", tmp_path / "masked.jsonl", print)
    written, masked = (tmp_path / "out/a.jsonl").read_text(), (tmp_path / "masked.jsonl").read_text()
    for row in rows:
        for value in row["pii"].values():
            assert not re.search(rf"\b{re.escape(value)}\b", written + masked)
    again = list(read_dialogs(tmp_path / "out/a.jsonl"))  # valid dialogs, whose slots are the stand-ins
    assert all(dialog.pii for dialog in again) and all("pii" not in json.loads(line) for line in masked.splitlines())
    Scrubber(Anns(), StandIns(KEY)).files(tmp_path / "in", tmp_path / "same", print)
    assert (tmp_path / "same/a.jsonl").read_text() == written
    Scrubber(Anns(), StandIns(b"o" * 32)).files(tmp_path / "in", tmp_path / "other", print)
    assert (tmp_path / "other/a.jsonl").read_text() != written


def test_nothing_that_is_read_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('"Ann"')
    for out in (tmp_path / "in", tmp_path / "in/sub"):
        with pytest.raises(NescioError, match="choose another place"):
            Scrubber(Anns()).files(tmp_path / "in", out, print)
    (tmp_path / "in/a.json").write_text('["Ann"]')
    with pytest.raises(NescioError, match=r"a\.jsonl is written or read already"):
        Scrubber(Anns()).files(tmp_path / "in", tmp_path / "out", print)
    assert (tmp_path / "in/a.jsonl").read_text() == '"Ann"'


def test_a_bad_row_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"Ann"\n{"x": 1}')
    with pytest.raises(NescioError, match=r"a\.jsonl:2: neither a text nor an object with text"):
        Scrubber(Anns()).files(tmp_path / "a.jsonl", tmp_path / "b.jsonl", print)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.txt").write_text("Ann")
    with pytest.raises(NescioError, match=r"docs: is a folder; name a file in it"):
        Scrubber(Anns()).files(tmp_path / "docs/a.txt", tmp_path / "docs", print)
    assert (tmp_path / "docs/a.txt").read_text() == "Ann"
