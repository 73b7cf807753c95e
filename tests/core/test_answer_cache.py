"""Answers on disk: asked for once, found again, and never half a line."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from nescio.core.answer_cache import AnswerCache
from nescio.core.errors import NescioError


def test_only_missing_pieces_are_done_and_equal_ones_once(tmp_path: Path) -> None:
    done: list[int] = []

    def work(missing: Sequence[int]) -> list[int]:
        done.extend(missing)
        return [10 * number for number in missing]

    path = tmp_path / "new/folder/cache.jsonl"
    assert AnswerCache(path).results(["a", "b", "a"], work) == [20, 10, 20] and done == [2, 1]
    done.clear()
    assert AnswerCache(path).results(["b", "c", "a"], work) == [10, 10, 20] and done == [1]


def test_a_first_run_returns_what_later_ones_read(tmp_path: Path) -> None:
    made = [("a", [0.1, -1e-17]), {"k": (1, 2)}]
    first = AnswerCache(tmp_path / "c.jsonl").results([0, 1], lambda missing: made)
    assert first == [["a", [0.1, -1e-17]], {"k": [1, 2]}]
    assert AnswerCache(tmp_path / "c.jsonl").results([0, 1], lambda missing: []) == first


def test_a_half_written_line_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    cache = AnswerCache(path)
    cache.add([{"key": "a", "said": "1"}, {"key": "a", "said": "2"}])
    path.write_bytes(path.read_bytes() + b'{"key": "b", "sa')
    again = AnswerCache(path)
    assert again.get("a") == cache.get("a") and again.get("b") is None


@pytest.mark.parametrize("line", ["[]", "{}", '{"key": []}', "3", "nonsense"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cache.jsonl"
    path.write_text('{"key": "a", "result": 1}\n' + line + "\n")
    with pytest.raises(NescioError, match=r"cache\.jsonl:2: "):
        AnswerCache(path)


def test_a_line_without_the_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"key": "a"}\n')
    with pytest.raises(NescioError, match=r"c\.jsonl:1: not a finished answer; delete the line"):
        AnswerCache(tmp_path / "c.jsonl", "said")
