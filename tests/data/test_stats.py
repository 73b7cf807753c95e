"""Files counted: what kind they are, how many rows of what, how long."""

import json
from pathlib import Path
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.data.stats import stats

SAMPLE = {"id": "d:1:4", "dialog_id": "d", "messages": [{"role": "user", "content": "Who?"}], "rejected": "Tom."}
CANDIDATE = {"sample_id": "d:1:4", "source": "s", "strategy": "system", "try": 0, "text": "x" * 7}
PAIR = {"id": "p", "dialog_id": "d", "prompt": "abc", "chosen": "c", "rejected": "rr", "source": "s"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"id": "d", "messages": SAMPLE["messages"]}, {"messages": SAMPLE["messages"]}],
            {"kind": "dialogs", "dialogs": 2, "counts": {}, "lengths": {"turn": {"mean": 4.0, "max": 4}}},
        ),
        (
            [SAMPLE | {"label": "A"}, SAMPLE | {"label": "B"}, SAMPLE | {"label": "B", "rejected": "Anna Bell."}],
            {
                "kind": "samples", "dialogs": 1, "counts": {"label": {"B": 2, "A": 1}},
                "lengths": {"prompt": {"mean": 4.0, "max": 4}, "rejected": {"mean": 6.0, "max": 10}},
            },
        ),
        (
            [CANDIDATE | {"accepted": True, "reason": None}, CANDIDATE | {"accepted": False, "reason": "pii"}],
            {
                "kind": "candidates", "dialogs": 1, "lengths": {"text": {"mean": 7.0, "max": 7}},
                "counts": {
                    "source": {"s": 2}, "strategy": {"system": 2}, "accepted": {"True": 1, "False": 1},
                    "reason": {"pii": 1},
                },
            },
        ),
        (
            [PAIR | {"twin": "protect"}, PAIR | {"twin": "reveal"}],
            {
                "kind": "pairs", "dialogs": 1,
                "counts": {"source": {"s": 2}, "twin": {"protect": 1, "reveal": 1}},
                "lengths": {"prompt": {"mean": 3.0, "max": 3}, "chosen": {"mean": 1.0, "max": 1},
                            "rejected": {"mean": 2.0, "max": 2}},
            },
        ),
    ],
    ids=["dialogs", "samples", "candidates", "pairs"],
)  # fmt: skip
def test_what_is_counted(tmp_path: Path, rows: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    write_jsonl(tmp_path / "f.jsonl", rows)
    assert stats(tmp_path / "f.jsonl") == expected | {"rows": len(rows)}


def test_lengths_are_measured_as_asked(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "f.jsonl", [PAIR | {"prompt": "two words", "twin": None}])
    assert stats(tmp_path / "f.jsonl", lambda text: len(text.split()))["lengths"]["prompt"]["max"] == 2


@pytest.mark.parametrize("second", [{"messages": "templated"}, {"messages": [1]}, ["x"]])
def test_a_row_of_another_kind_is_named(tmp_path: Path, second: Any) -> None:
    rows = [{"messages": SAMPLE["messages"]}, second]
    (tmp_path / "f.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(NescioError, match=r"f\.jsonl:2: cannot be read as one of the dialogs; correct the line"):
        stats(tmp_path / "f.jsonl")


@pytest.mark.parametrize("kind", ["array", "sharegpt", "from", "parts", "parquet"])
def test_dialogs_of_every_format_are_counted(tmp_path: Path, kind: str) -> None:
    asked, said = "Who is it?", "It is Ann."
    own = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    foreign = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    parts = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in own]
    row: dict[str, Any] = {
        "sharegpt": {"conversations": foreign}, "from": {"messages": foreign}, "parts": {"messages": parts},
    }.get(kind, {"messages": own})  # fmt: skip
    path = tmp_path / f"f.{ {'array': 'json', 'parquet': 'parquet'}.get(kind, 'jsonl') }"
    if kind == "parquet":
        pytest.importorskip("datasets").Dataset.from_list([row]).to_parquet(str(path))
    else:
        path.write_text(json.dumps([row] if kind == "array" else row))
    lengths = {"turn": {"mean": 10.0, "max": 10}}
    assert stats(path) == {"kind": "dialogs", "rows": 1, "dialogs": 1, "counts": {}, "lengths": lengths}


@pytest.mark.parametrize("source", ["exports", "exports/*.jsonl"])
def test_dialogs_of_several_files_are_counted(tmp_path: Path, source: str) -> None:
    turns = [{"from": "human", "value": "Who is it?"}, {"from": "gpt", "value": "It is Ann."}]
    (tmp_path / "exports").mkdir()
    for name in ("one", "two"):
        write_jsonl(tmp_path / f"exports/{name}.jsonl", [{"conversations": turns}])
    found = stats(tmp_path / source)
    assert found["kind"] == "dialogs" and found["rows"] == found["dialogs"] == 2
    (tmp_path / "empty").mkdir()
    for missing in ("none.jsonl", "none*.jsonl", "empty"):
        with pytest.raises(NescioError, match="no such"):
            stats(tmp_path / missing)
