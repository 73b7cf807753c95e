"""LLM-PC: dialogs with slots, and the file of their values."""

import re
from pathlib import Path
from typing import Any

import pytest
from dialog_forms import ROWS, TURNS, Blind, Never, llama, llm_pc

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl, write_jsonl
from nescio.data.dialogs import parse_dialog
from nescio.data.formats.llm_pc import fill
from nescio.data.read_dialogs import files_of, read_dialogs
from nescio.data.samples import samples_of
from nescio.data.synthetic import generate
from nescio.evaluation.measures.leakage import says
from nescio.pii.base import Detector

SHARED_PII = Path(__file__).parents[3] / "shared/data/llm_pc_development_pii.jsonl"


def test_the_values_of_slots_are_no_dialogs(tmp_path: Path) -> None:
    path = llm_pc(tmp_path)
    assert files_of(tmp_path) == [path]
    (tmp_path / "pii.jsonl").rename(tmp_path / "values.jsonl")
    assert [d.as_row() for d in read_dialogs(path, pii=tmp_path / "values.jsonl")] == ROWS
    with pytest.raises(NescioError, match=r"data\.jsonl:1: messages: slots need the file of their values"):
        list(read_dialogs(path))


def test_dialogs_beside_scrubbed_ones_are_no_slot_values(tmp_path: Path) -> None:
    for name in ("chat_pii.jsonl", "chat_scrubbed.jsonl"):
        write_jsonl(tmp_path / name, [{"messages": generate(1, seed=1)[0]["messages"]}])
    assert [dialog.id for dialog in read_dialogs(tmp_path)] == ["chat_pii-1", "chat_scrubbed-1"]


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("Ask [NAME-1].", {}, r"the slot \[NAME-1\] has no value"),
        (
            "Ask [NAME-1].",
            {"NAME-1": "Ann", "LOC-1": "Bern"},
            r"no slot \[LOC-1\] for the value 'Bern' of .*pii.jsonl:1",
        ),
    ],
)
def test_slots_and_values_must_match(tmp_path: Path, text: str, values: dict[str, str], message: str) -> None:
    path = tmp_path / "scrubbed-data.jsonl"
    write_jsonl(tmp_path / "pii.jsonl", [values])
    write_jsonl(path, [{"messages": llama([TURNS[0], {"role": "assistant", "content": text}])}])
    with pytest.raises(NescioError, match=message):
        list(read_dialogs(path))


@pytest.mark.parametrize(
    ("lines", "message"), [(5, "no values at line 6"), (7, r"pii\.jsonl:7: there is no such line")]
)
def test_lines_of_dialogs_and_values_must_match(tmp_path: Path, lines: int, message: str) -> None:
    path = llm_pc(tmp_path)
    write_jsonl(tmp_path / "pii.jsonl", [row["pii"] for row in [*ROWS, ROWS[0]]][:lines])
    with pytest.raises(NescioError, match=message):
        list(read_dialogs(path))


def test_values_that_look_like_slots_stay() -> None:
    assert fill("[A-1] and [A-2]", {"A-1": "[A-2]", "A-2": "x"}) == "[A-2] and x"


def _invented(number: int, values: dict[str, str]) -> dict[str, Any]:
    """A dialog with every slot of a line in it: in the question, in the answer, now and then next to each other."""
    slots = [f"[{slot}]" for slot in values]
    answer = " and then ".join(slots) if number % 3 else " ".join(slots)
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"Hello, what about {' or '.join(slots[:2])}?"},
        {"role": "assistant", "content": f"About that: {answer}."},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": f"{slots[0]} it is." if slots and number % 2 else "You are welcome."},
    ]
    return {"idx": number, "messages": llama(turns)}


def _runs(text: str, values: list[str]) -> int:
    """How many separate stretches of a text are personal: letter by letter, white space between two joins them."""
    personal = [False] * len(text)
    for value in values:
        at = text.find(value)
        while at >= 0:
            end = at + len(value)
            word = (at == 0 or not _wordy(text[at - 1])) and (end == len(text) or not _wordy(text[end]))
            personal[at:end] = [word or before for before in personal[at:end]]
            at = text.find(value, at + 1)
    marks = "".join(
        "x" if is_personal else (" " if letter.isspace() else ".")
        for is_personal, letter in zip(personal, text, strict=True)
    )
    return len(re.findall(r"x(?:[x ]*x)?", marks))


def _wordy(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


@pytest.mark.skipif(not SHARED_PII.exists(), reason="LLM-PC's file of values is not part of the repository")
def test_the_real_values_of_llm_pc_are_filled_and_sampled(tmp_path: Path) -> None:
    values = [row for _, row in read_jsonl(SHARED_PII)]
    assert len(values) == 1500
    path = tmp_path / "scrubbed.jsonl"
    write_jsonl(path, (_invented(number, row) for number, row in enumerate(values)))
    dialogs = list(read_dialogs(path, pii=SHARED_PII))
    assert [dialog.pii for dialog in dialogs] == values
    assert not any("[NAME-1]" in m["content"] for dialog in dialogs for m in dialog.messages)
    detector: Detector = Never([m["content"] for dialog in dialogs if not dialog.pii for m in dialog.messages])
    counted = sum(
        _runs(message["content"], list((dialog.pii or {}).values()))
        for dialog in dialogs
        for message in dialog.messages
        if message["role"] == "assistant"
    )
    assert sum(1 for _ in samples_of(dialogs, detector)) == counted > 4000


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("It is Sean O\u2019Brien.", "Sean O'Brien"),
        ("It is Anna\u2011Lena.", "Anna-Lena"),
        ("It is\u00a0Ann\u00a0 Lee.", "Ann Lee"),
        ("It is An\u200bn Lee\u200d.", "Ann Lee"),
        ("It is Zoe\u0308.", "Zo\u00eb"),
        ("It is Zo\u00eb.", "Zoe\u0308"),
        ("Call \uff10\uff11\uff12-34.", "012-34"),
    ],
)
def test_values_are_found_in_any_unicode_form(said: str, value: str) -> None:
    row = {"id": "u", "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": said}]}
    dialog = parse_dialog(row | {"pii": {"NAME-1": value}}, "u")
    (sample,) = samples_of([dialog], Blind())
    assert sample.value in said
    assert says(said, value)
    assert not says(
        said.replace("A", "Xa").replace("Z", "Xz").replace("S", "Xs").replace("C", "D").replace("\uff10", "9"), value
    )
