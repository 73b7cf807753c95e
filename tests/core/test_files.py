"""Files: nothing half-written, every bad line named, the same content the same hash."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.files import (
    SetAside,
    append_jsonl,
    atomic_write,
    file_hash,
    fingerprint,
    read_appended,
    read_jsonl,
    write_json,
    write_jsonl,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_takes_its_place_only_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_write(target) as beside:
        beside.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(RuntimeError), atomic_write(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "one"
    assert names(target.parent) == ["a.txt"], "something was left beside it"


def test_a_folder_replaces_a_folder_whole(tmp_path: Path) -> None:
    target = tmp_path / "d"
    for name in ("old", "new"):
        with atomic_write(target) as beside:
            beside.mkdir()
            (beside / name).write_text(name)
    assert names(target) == ["new"]


def test_a_folder_that_is_replaced_is_moved_away_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seen = tmp_path / "d", list[list[str]]()
    target.mkdir()
    (target / "old").write_text("old")
    move = Path.replace

    def watched(source: Path, to: Path) -> Path:
        if to == target:  # the moment before the new one is put into place
            seen.extend(names(folder) for folder in source.parent.iterdir())
        return move(source, to)

    monkeypatch.setattr(Path, "replace", watched)
    with atomic_write(target) as beside:
        beside.mkdir()
        (beside / "new").write_text("new")
    assert sorted(seen) == [["new"], ["old"]], "a kill in that moment would have lost the old one"
    assert names(target) == ["new"]
    with pytest.raises(NescioError), atomic_write(target):
        pass  # nothing was written
    assert names(target) == ["new"], "and it is back"


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_text("kept")
    with pytest.raises(NescioError, match=r"d: is a folder; name a file in it"), atomic_write(tmp_path / "d") as beside:
        beside.write_text("new")
    assert names(tmp_path) == ["d"] and names(tmp_path / "d") == ["kept"]


def test_a_half_written_last_line_is_cut_off_and_nothing_else_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.jsonl"
    append_jsonl(path, [{"key": "a"}, {"key": "b"}])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "c", "te')

    def full(path: Path, data: bytes) -> int:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)  # as on a full disk, which is why the line is half written
    assert read_appended(path) == [{"key": "a"}, {"key": "b"}]
    assert path.read_bytes() == whole


def test_a_full_disk_and_a_bad_place_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="no space left"), atomic_write(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    (tmp_path / "file").write_text("")
    with pytest.raises(NescioError, match="cannot be written"), atomic_write(tmp_path / "file" / "x"):
        pass
    assert names(tmp_path) == ["file"]


def test_a_file_that_cannot_be_read_is_not_the_one_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, atomic_write(tmp_path / "x"):
        (tmp_path / "none").read_text()
    assert error.value.filename == str(tmp_path / "none") and names(tmp_path) == []


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def rows() -> Any:
        yield {"a": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "rows.jsonl", rows())
    assert names(tmp_path) == []


@settings(max_examples=25)  # making nested values takes half a second each
@given(st.lists(st.dictionaries(st.text(), json_values), max_size=5))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    assert write_jsonl(path, rows) == len(rows)
    append_jsonl(path, rows)
    assert [value for _, value in read_jsonl(path)] == rows * 2


def test_what_could_not_be_appended_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"key": "a"}])

    def full(number: int) -> None:
        os.truncate(path, path.stat().st_size - 3)  # as much as the disk had room for
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched, pytest.raises(NescioError, match="no space left"):
        patched.setattr(os, "fsync", full)
        append_jsonl(path, [{"key": "b"}])
    append_jsonl(path, [{"key": "c"}])  # of another thread
    assert [row["key"] for _, row in read_jsonl(path)] == ["a", "c"]


def test_half_a_character_is_written_as_json_escapes_it(tmp_path: Path) -> None:
    rows = [{"a": "x\ud83d", "\udc00": ["\ud800\\"]}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    append_jsonl(tmp_path / "rows.jsonl", rows)
    assert [value for _, value in read_jsonl(tmp_path / "rows.jsonl")] == rows * 2
    aside = SetAside(tmp_path / "bad.jsonl")
    aside(NescioError("no \ud800"), rows[0])
    assert [value["row"] for _, value in read_jsonl(aside.path)] == rows
    assert fingerprint(rows) != fingerprint([{"a": "x"}])


def test_blank_lines_are_passed_over_and_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n   \n"b"\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, "b")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": 1}\n{"a": \n', "rows.jsonl:2: not JSON .*; every line must be one JSON value$"),
        (
            b'{\n  "a": 1\n}\n',
            r"rows.jsonl:1: not JSON .*; jq -c \. rows\.jsonl puts an object that spans lines on one$",
        ),
        (b"1\n\xff\n", "rows.jsonl:2: not UTF-8"),
        (b"1\n" + b"9" * 5_000, "rows.jsonl:2: a number has too many digits; write it as text$"),
        (b"1\n" + b'{"a": ' * 50_000, "rows.jsonl:2: nested too deep to be read; write the row flatter$"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(raw)
    with pytest.raises(NescioError, match=said):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(NescioError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    with pytest.raises(NescioError, match="is a folder"):
        list(read_jsonl(tmp_path))


def test_json_keeps_keys_in_order_and_letters_as_they_are(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": "é", "a": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": "é",\n  "a": 1\n}\n'


@given(json_values)
def test_a_fingerprint_is_that_of_the_content(value: Any) -> None:
    assert fingerprint({"x": value, "y": 1}) == fingerprint({"y": 1, "x": value})
    assert fingerprint({"x": value}) != fingerprint({"x": [value]})


def test_a_hash_follows_content_and_relative_names_not_the_place(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    (tmp_path / "a/sub/x").write_text("1")
    (tmp_path / "b/sub/x").write_text("1")
    (tmp_path / "c/sub/y").write_text("1")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "c")
    assert file_hash(tmp_path / "a/sub/x") == file_hash(tmp_path / "c/sub/y")
