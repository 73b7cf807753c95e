"""Files of dialogs: folders, encodings, compression, damage. None is lost, and what is wrong is one line."""

import gzip
import io
import json
import re
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from dialog_forms import ROWS, TURNS, Never

from nescio.core.errors import NescioError
from nescio.core.files import LONGEST_LINE, SetAside, stop, write_jsonl
from nescio.data.read_dialogs import files_of, read_dialogs
from nescio.data.rows import _Shallow, read_rows
from nescio.data.samples import samples_of


def test_a_dataset_dict_gives_all_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {"train": datasets.Dataset.from_list(ROWS[:4]), "test": datasets.Dataset.from_list(ROWS[4:])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
    assert [dialog.id for dialog in read_dialogs(tmp_path / "both")] == [row["id"] for row in ROWS]


def test_folders_and_globs(tmp_path: Path) -> None:
    for number in (2, 1):
        write_jsonl(tmp_path / f"{number}.jsonl", ROWS[3 * number - 3 : 3 * number])
    (tmp_path / "notes.txt").write_text("no dialogs")
    for source in (tmp_path, tmp_path / "[12].jsonl"):
        assert [dialog.as_row() for dialog in read_dialogs(source)] == ROWS
    with pytest.raises(NescioError, match="no such dialog file"):
        files_of(tmp_path / "*.parquet")


def test_rows_without_an_id_are_named_by_their_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", ({"messages": row["messages"]} for row in ROWS[:2]))
    assert [(dialog.id, dialog.pii) for dialog in read_dialogs(tmp_path / "d.jsonl")] == [("d-1", None), ("d-2", None)]


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["chat.2024-01.jsonl", "chat.2024-02.jsonl.gz"], ["chat.2024-01-1", "chat.2024-02-1"]),
        (["a/chat.jsonl", "b/chat.jsonl"], ["a/chat-1", "b/chat-1"]),
        (["chat.json", "chat.jsonl", "other.jsonl"], ["chat.json-1", "chat.jsonl-1", "other-1"]),
        (["chat.2024-01.jsonl"], ["chat-1"]),
    ],
)
def test_and_by_their_file_where_there_are_several(tmp_path: Path, files: list[str], ids: list[str]) -> None:
    line = json.dumps({"messages": TURNS}).encode()
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(line) if name.endswith(".gz") else line)
    source = tmp_path / "*/chat.jsonl" if "/" in files[0] else tmp_path
    assert [dialog.id for dialog in read_dialogs(source)] == ids


def test_a_long_line_is_not_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"x" * (100 << 20))
    tracemalloc.start()
    with pytest.raises(NescioError, match=r"d\.jsonl:1: longer"):
        list(read_dialogs(tmp_path / "d.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * LONGEST_LINE


@pytest.mark.parametrize(("name", "content"), [("d.parquet", b"no"), ("d.jsonl.gz", b"\x1f\x8bno"), ("d.json", b"[{]")])
def test_damaged_files_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NescioError, match=re.escape(name)):
        list(read_dialogs(tmp_path / name))


@pytest.mark.parametrize("form", ["lines", "array", "short"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_gzip_is_one_line(tmp_path: Path, form: str, damage: str) -> None:
    rows = [row | {"id": Random(number).randbytes(99).hex()} for number, row in enumerate(ROWS * 40)]
    plain = {"lines": "\n".join(map(json.dumps, rows)), "array": json.dumps(rows), "short": "[1, 2, 3]"}[form]
    packed = bytearray(gzip.compress(plain.encode()))
    half = len(packed) // 2
    packed[half:] = b"" if damage == "cut" else bytes(byte ^ 16 for byte in packed[half:])
    (tmp_path / "d.json.gz").write_bytes(packed)
    with pytest.raises(NescioError, match=r"d\.json\.gz: damaged gzip; pack the file again"):
        for _ in read_rows(tmp_path / "d.json.gz", lambda error, row: None):
            pass


def test_a_damaged_dataset_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(NescioError, match="damaged"):
        list(read_dialogs(tmp_path))


ARRAY = json.dumps(ROWS[:2], ensure_ascii=False, indent=1)

LINES = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS[:2])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(("name", "text"), [("d.json", ARRAY), ("d.jsonl", LINES), ("d.JSONL", ARRAY)])
def test_files_as_windows_writes_them(tmp_path: Path, encoding: str, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode(encoding))
    aside = SetAside(tmp_path / "bad.jsonl")
    assert [dialog.as_row() for dialog in read_dialogs(tmp_path / name, refuse=aside)] == ROWS[:2]
    assert aside.count == 0


def test_a_mark_that_lies_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(NescioError, match=r"d\.jsonl: begins as utf-16, but is not"):
        list(read_dialogs(tmp_path / "d.jsonl"))


def test_ids_as_tables_write_them(tmp_path: Path) -> None:
    ids = ["1.0", "NaN", "null", '"a"', "7", "2.5", "Infinity", "1e999"]
    lines = [json.dumps({"messages": TURNS})[:-1] + f', "id": {each}}}' for each in ids]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    assert [dialog.id for dialog in read_dialogs(tmp_path / "d.jsonl")] == [
        "1",
        "d-2",
        "d-3",
        "a",
        "7",
        "2.5",
        "d-7",
        "d-8",
    ]
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": TURNS, "id": True}))
    with pytest.raises(NescioError, match="id: must be a text or a number"):
        list(read_dialogs(tmp_path / "d.jsonl"))


def test_a_folder_as_a_hub_clone_has_it(tmp_path: Path) -> None:
    for number, name in enumerate(["a.JSONL", "b.ndjson", "c.json", "data/train-00000.jsonl", "data/deep/e.jsonl.gz"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(ROWS[number]).encode()
        path.write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    for name in ("README.md", ".gitattributes", "dataset_infos.json", ".git/index.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert sorted(dialog.id for dialog in read_dialogs(tmp_path)) == sorted(row["id"] for row in ROWS[:5])
    (tmp_path / "more.csv").write_text("a,b")
    with pytest.raises(NescioError, match=r"more\.csv: cannot be read as dialogs"):
        files_of(tmp_path)


CASES = Path(__file__).parents[3] / "shared/cases"


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not part of the repository")
@pytest.mark.parametrize(
    ("name", "count"),
    [("01-bom/windows.json", 2), ("01-bom/windows.jsonl", 2), ("02-toplevel-system/rows.jsonl", 2),
     ("06-weight-zero/rows.jsonl", 1), ("07-float-and-null-ids/floats.jsonl", 2),
     ("07-float-and-null-ids/nulls.jsonl", 2), ("09-unicode-forms/curly.jsonl", 1), ("09-unicode-forms/nbsp.jsonl", 1)],
)  # fmt: skip
def test_reported_files_are_read_whole(name: str, count: int) -> None:
    dialogs = list(read_dialogs(CASES / name))
    assert len({dialog.id for dialog in dialogs}) == count
    if "system" in name:
        assert all(dialog.messages[0]["role"] == "system" for dialog in dialogs)
    if "weight" in name:
        assert [dialog.answers for dialog in dialogs] == [[3]]
    if "curly" in name:
        assert [sample.value for sample in samples_of(dialogs, Never())] == ["Sean O\u2019Brien"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_were_joined_have_a_mark_in_the_middle(tmp_path: Path, encoding: str) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[:2])
    (tmp_path / "d.jsonl").write_bytes(b"".join(line.encode(encoding) for line in lines))
    assert [dialog.as_row() for dialog in read_dialogs(tmp_path / "d.jsonl")] == ROWS[:2]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "d.jsonl").write_bytes(LINES.encode(encoding))
    assert [dialog.as_row() for dialog in read_dialogs(tmp_path / "d.jsonl")] == ROWS[:2]


@pytest.mark.parametrize("name", ["d.jsonl", "d.JSON", "d.jsonl.gz", "d.jsonlines.GZ"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(LINES.encode()))
    assert [dialog.as_row() for dialog in read_dialogs(tmp_path)] == ROWS[:2]


@pytest.mark.parametrize(
    "name",
    [
        "more.jsonl.1", "more.jsonl.part", "more.json.bak", "more.jsonl~", "part-00000", "more.txt", "more.avro",
        "more.orc", "more.feather",
    ],
)  # fmt: skip
def test_data_under_an_unusual_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.jl").write_text(LINES)
    assert len(list(read_dialogs(tmp_path))) == 2
    (tmp_path / "notes.txt").write_text("Rows of 2026.")
    (tmp_path / "LICENSE").write_text("MIT")
    assert len(list(read_dialogs(tmp_path))) == 2
    (tmp_path / name).write_text(LINES)
    with pytest.raises(NescioError, match=rf"{re.escape(name)}: cannot be read as dialogs"):
        list(read_dialogs(tmp_path))


def nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


@pytest.mark.parametrize("beginning", ["[" * 100_000, '[{"messages": ' * 50_000], ids=["arrays", "objects"])
def test_an_array_that_is_nested_too_deep_is_one_line(tmp_path: Path, beginning: str) -> None:
    """ijson alone would build the paths of all levels: five gigabytes for the first of these files."""
    (tmp_path / "deep.json").write_text(beginning)
    with pytest.raises(NescioError, match=r"deep\.json: nested more than 100 deep; write each dialog") as refused:
        list(read_dialogs(tmp_path / "deep.json"))
    assert "\n" not in str(refused.value)


def test_brackets_in_texts_open_no_level(tmp_path: Path) -> None:
    texts = ["[" * 200, '"[' * 200, "\\[{" * 200, '\\\\"[' * 200, "\n\t[" * 200, "é" * 70_000 + "[" * 200]
    turns = [{"role": "user", "content": text} for text in texts]
    (tmp_path / "flat.json").write_text(json.dumps([{"messages": turns}] * 2))
    assert [row for _, row in read_rows(tmp_path / "flat.json", stop)] == [{"messages": turns}] * 2


@pytest.mark.parametrize("size", range(1, 8))
def test_levels_are_counted_wherever_a_piece_ends(tmp_path: Path, size: int) -> None:
    def whole(text: str) -> bytes:
        file = _Shallow(io.BytesIO(text.encode()), tmp_path)
        return b"".join(iter(lambda: file.read(size), b""))

    texts = json.dumps(["[" * 200, '\\"[' * 200, "\\\\{" * 200])
    highest = f"[{texts}, {nested(99)}, {nested(99)}]"
    assert whole(highest) == highest.encode()
    with pytest.raises(NescioError, match="nested more than 100 deep"):
        whole(f"[{texts}, {nested(99)}, {nested(100)}]")
