"""Dialog files of every format: the same dialogs come out of each, bad rows are named or set aside, none is lost."""

import gzip
import io
import json
import re
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import LONGEST_LINE, SetAside, read_jsonl, stop, write_jsonl
from nescio.data.dialogs import parse_dialog
from nescio.data.formats.llm_pc import fill
from nescio.data.read_dialogs import files_of, read_dialogs
from nescio.data.rows import _Shallow, read_rows
from nescio.data.samples import samples_of
from nescio.data.synthetic import generate, scrubbed
from nescio.evaluation.measures.leakage import says
from nescio.pii.base import Detector, Span

ROWS = generate(6, seed=4)


class Blind:
    """Finds nothing: the dialogs record what is personal."""

    name = "blind"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [[] for _ in texts]


SHARED_PII = Path(__file__).parents[3] / "shared/data/llm_pc_development_pii.jsonl"


def llama(messages: list[dict[str, str]]) -> str:
    """A conversation as LLM-PC has it."""
    turns = (f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n{m['content']}<|eot_id|>" for m in messages)
    return "<|begin_of_text|>" + "".join(turns)


def sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names[m["role"]], "value": m["content"]} for m in row["messages"]]
    return {"id": row["id"], "conversations": turns, "pii": row["pii"]}


def in_parts(row: dict[str, Any]) -> dict[str, Any]:
    messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in row["messages"]]
    return row | {"messages": messages}


def llm_pc(folder: Path) -> Path:
    write_jsonl(folder / "pii.jsonl", (row["pii"] for row in ROWS))
    path = folder / "scrubbed-data.jsonl"
    write_jsonl(path, ({"idx": row["id"], "messages": llama(scrubbed(row))} for row in ROWS))
    return path


def as_file(kind: str, folder: Path) -> Path:
    """The dialogs of `ROWS` in a format."""
    path = folder / "dialogs.jsonl"
    if kind == "llm-pc":
        return llm_pc(folder)
    if kind in ("parquet", "saved"):
        datasets = pytest.importorskip("datasets")
        table = datasets.Dataset.from_list(ROWS)
        path = folder / ("dialogs.parquet" if kind == "parquet" else "saved")
        table.to_parquet(str(path)) if kind == "parquet" else table.save_to_disk(str(path))
    elif kind == "array":
        path = folder / "dialogs.json"
        path.write_text(json.dumps([sharegpt(row) for row in ROWS]))
    elif kind == "gzip":
        path = folder / "dialogs.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    else:
        change = {"ours": lambda row: row, "sharegpt": sharegpt, "openai": in_parts}[kind]
        write_jsonl(path, map(change, ROWS))
    return path


@pytest.mark.parametrize("kind", ["ours", "sharegpt", "openai", "llm-pc", "parquet", "saved", "array", "gzip"])
def test_every_format_gives_the_same_dialogs(tmp_path: Path, kind: str) -> None:
    assert [dialog.as_row() for dialog in read_dialogs(as_file(kind, tmp_path))] == ROWS


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


GOOD = json.dumps(ROWS[0])
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
BAD: list[tuple[bytes, str]] = [
    (b"{", "not JSON"),
    (b'"\xff"', "not UTF-8"),
    (b"[1]", "not a JSON object"),
    (b'{"conversations": "x"}', "conversations: must be a list"),
    (b'{"conversations": [{"from": "bot", "value": "x"}]}', r"conversations\[0\]\.from: 'bot' is unknown"),
    (b'{"conversations": [{"from": "gpt", "value": "x"}]}', r"conversations\[0\]\.from: assistant, but turns must"),
    (b'{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', r"messages\[0\]\.content: must be a text"),
    (json.dumps({"messages": TURNS, "pii": {"NAME-1": "Zoe"}}).encode(), "'Zoe' occurs in no message"),
    (GOOD.encode(), f"id '{ROWS[0]['id']}' stands at line 1 already"),
    (b"x" * (100 << 20), "longer than 16 MiB"),
]


@pytest.mark.parametrize(("raw", "message"), BAD, ids=[message[:20] for _, message in BAD])
def test_a_bad_row_is_named_or_set_aside(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + raw + b"\n" + json.dumps(ROWS[1]).encode())
    with pytest.raises(NescioError, match=rf"d\.jsonl:2: .*{message}") as caught:
        list(read_dialogs(path))
    assert "\n" not in str(caught.value)
    aside = SetAside(tmp_path / "bad.jsonl")
    assert [dialog.as_row() for dialog in read_dialogs(path, refuse=aside)] == ROWS[:2]
    ((_, kept),) = read_jsonl(tmp_path / "bad.jsonl")
    assert (aside.count, kept["error"]) == (1, str(caught.value))


def test_a_long_line_is_not_held_in_memory(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(b"x" * (100 << 20))
    tracemalloc.start()
    with pytest.raises(NescioError, match=r"d\.jsonl:1: longer"):
        list(read_dialogs(tmp_path / "d.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * LONGEST_LINE


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


class Never:
    """No detector is asked where slots are recorded.

    Args:
        unrecorded: Texts of dialogs without any slot, in which it finds nothing.
    """

    name = "never"

    def __init__(self, unrecorded: Sequence[str] = ()) -> None:
        self._unrecorded = unrecorded

    def find(self, texts: Any) -> list[list[Any]]:
        assert {*texts} <= {*self._unrecorded}
        return [[] for _ in texts]


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


@pytest.mark.parametrize("field", ["messages", "conversations"])
def test_a_system_prompt_beside_the_turns_is_their_first(tmp_path: Path, field: str) -> None:
    turns = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ann."}]
    rows = [{"system": "Be brief.", field: turns}, {"system": "", field: turns}, {"system": None, field: turns}]
    write_jsonl(tmp_path / "d.jsonl", rows)
    first, *others = read_dialogs(tmp_path / "d.jsonl")
    assert first.messages[0] == {"role": "system", "content": "Be brief."}
    assert [len(dialog.messages) for dialog in others] == [2, 2]
    write_jsonl(
        tmp_path / "d.jsonl", [{"system": "Be brief.", field: [{"from": "system", "value": "Be long."}, *turns]}]
    )
    with pytest.raises(NescioError, match=rf"d\.jsonl:1: system: {field} has a system turn of its own"):
        list(read_dialogs(tmp_path / "d.jsonl"))


def test_turns_in_any_mixture_of_words(tmp_path: Path) -> None:
    role, origin = {"role": "user", "content": "Who?"}, {"from": "GPT", "value": "Ann."}
    developer = {"role": "developer", "content": "Be brief."}
    rows = [{field: [developer, role, origin]} for field in ("messages", "conversations")]
    write_jsonl(tmp_path / "d.jsonl", rows)
    for dialog in read_dialogs(tmp_path / "d.jsonl"):
        assert [message["role"] for message in dialog.messages] == ["system", "user", "assistant"]
    # Errors use the row's own words.
    for row, place in (
        ({"conversations": [{"role": "bot", "content": "x"}]}, r"conversations\[0\]\.role"),
        ({"messages": [{"from": "bot", "value": "x"}]}, r"messages\[0\]\.from"),
    ):
        write_jsonl(tmp_path / "d.jsonl", [row])
        with pytest.raises(NescioError, match=rf"d\.jsonl:1: {place}: 'bot' is unknown"):
            list(read_dialogs(tmp_path / "d.jsonl"))


def test_turns_of_weight_0_are_context_only(tmp_path: Path) -> None:
    first = {"role": "assistant", "content": "Ann Lee runs it.", "weight": 0}
    second = {"role": "assistant", "content": "Tom Lee runs it.", "weight": 1}
    asked = {"role": "user", "content": "Who?"}
    row = {"id": "w", "messages": [asked, first, asked, second], "pii": {"NAME-1": "Ann Lee", "NAME-2": "Tom Lee"}}
    write_jsonl(tmp_path / "d.jsonl", [row])
    (dialog,) = read_dialogs(tmp_path / "d.jsonl")
    assert dialog.answers == [3]
    assert [sample.value for sample in samples_of([dialog], Blind())] == ["Tom Lee"]
    write_jsonl(tmp_path / "again.jsonl", [dialog.as_row()])
    assert list(read_dialogs(tmp_path / "again.jsonl")) == [dialog]
    for messages, said in (
        ([asked, first], "every assistant turn has weight 0"),
        ([asked, first | {"weight": 2}], r"messages\[1\]\.weight: must be 0 or 1, is 2"),
    ):
        write_jsonl(tmp_path / "d.jsonl", [row | {"messages": messages, "pii": {}}])
        with pytest.raises(NescioError, match=said):
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


def turns(*answer: Any, **more: Any) -> dict[str, Any]:
    """A question and an answer of given content."""
    content = list(answer) if len(answer) > 1 else answer[0]
    return {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": content} | more]}


IMAGE = {"type": "image_url", "text": "", "image_url": {"url": "x"}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (turns("Ask Ann.", tool_calls=[{"function": {"name": "f"}}]), r"messages\[1\]\.tool_calls: "),
        (
            turns({"type": "text", "text": "Ask Ann."}, IMAGE),
            r"messages\[1\]\.content: must be a text, part 1 is of type image_url",
        ),
        (turns("Ask Ann.") | {"conversations": turns("Ask Tom.")["messages"]}, "has conversations too"),
        (turns("\u200b\ufeff"), r"messages\[1\]\.content: is empty"),
        ({"messages": "[{1}]"}, "messages: a text that is no JSON"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_jsonl(tmp_path / "d.jsonl", [row])
    with pytest.raises(NescioError, match=rf"d\.jsonl:1: .*{message}"):
        list(read_dialogs(tmp_path / "d.jsonl"))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    messages = json.dumps(turns("Ask Ann.")["messages"])
    (tmp_path / "d.jsonl").write_text(f'{{"messages": {messages}, "messages": {messages}}}\n')
    with pytest.raises(NescioError, match=r"d\.jsonl:1: messages: the key stands there twice"):
        list(read_dialogs(tmp_path / "d.jsonl"))


@pytest.mark.parametrize(
    "row",
    [
        turns({"type": "output_text", "text": "Ask "}, {"type": "text", "text": "Ann."}),
        turns("Ask ", "Ann."),
        turns("Ask Ann.") | {"conversations": None},
        {"messages": json.dumps(turns("Ask Ann.")["messages"])},
        turns("Ask Ann.", tool_calls=None, function_call=None, weight=None),
        {"messages": None, "conversations": [
            {"role": None, "content": None, "from": "human", "value": "Who?"},
            {"role": "model", "content": "Ask Ann.", "from": None, "value": None},
        ]},
    ],
)  # fmt: skip
def test_turns_as_other_tools_write_them(tmp_path: Path, row: dict[str, Any]) -> None:
    write_jsonl(tmp_path / "d.jsonl", [row])
    (dialog,) = read_dialogs(tmp_path / "d.jsonl")
    assert dialog.messages == turns("Ask Ann.")["messages"]


@pytest.mark.parametrize("field", ["system_prompt", "system_message", "system_instruction", "instructions"])
def test_a_system_prompt_under_another_name(tmp_path: Path, field: str) -> None:
    write_jsonl(tmp_path / "d.jsonl", [turns("Ask Ann.") | {field: "Be brief."}, turns("Ask Ann.") | {field: " "}])
    one, two = read_dialogs(tmp_path / "d.jsonl")
    assert one.messages[0] == {"role": "system", "content": "Be brief."} and len(two.messages) == 2
    write_jsonl(tmp_path / "d.jsonl", [turns("Ask Ann.") | {field: [{"type": "text", "text": "Be brief."}]}])
    assert next(read_dialogs(tmp_path / "d.jsonl")).messages == one.messages, "in parts, as Anthropic's API takes it"


@pytest.mark.parametrize(
    "mark",
    [{"weight": 0.0}, {"weight": False}, {"train": False}, {"loss": 0}, {"loss_weight": 0}, {"trainable": False}],
)
def test_turns_that_tools_keep_out_of_the_loss(tmp_path: Path, mark: dict[str, Any]) -> None:
    row = {"messages": turns("Ann Lee.", **mark)["messages"] + turns("Tom Lee.")["messages"]}
    write_jsonl(tmp_path / "d.jsonl", [row])
    assert [dialog.answers for dialog in read_dialogs(tmp_path / "d.jsonl")] == [[3]]


def test_a_mark_of_another_field_is_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "d.jsonl", [turns("Ask Ann.", train="false")])
    with pytest.raises(NescioError, match=r"messages\[1\]\.train: must be 0 or 1, is 'false'"):
        list(read_dialogs(tmp_path / "d.jsonl"))


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


ASKED, SAID = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}
BRIEF = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"instruction": "Who?", "output": "Ann."}, [ASKED, SAID]),
        ({"instruction": "Who?", "input": "", "output": "Ann.", "text": "### Who?"}, [ASKED, SAID]),
        ({"instruction": "Who?", "input": None, "output": "Ann.", "system": "Be brief."}, [BRIEF, ASKED, SAID]),
        (
            {"instruction": "Who is it?", "input": "It is Ann.", "output": "Ann."},
            [ASKED | {"content": "Who is it?\n\nIt is Ann."}, SAID],
        ),
        ({"prompt": "Who?", "completion": " Ann.\n"}, [ASKED, SAID]),
        ({"prompt": [BRIEF, ASKED], "completion": [SAID]}, [BRIEF, ASKED, SAID]),
        (
            {"prompt": "x", "completion": "y", "instruction": "x", "output": "y", "messages": [ASKED, SAID]},
            [ASKED, SAID],
        ),
    ],
)
def test_a_question_and_an_answer(tmp_path: Path, row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    write_jsonl(tmp_path / "d.jsonl", [{"id": "q", "pii": {"NAME-1": "Ann"}} | row])
    (dialog,) = read_dialogs(tmp_path / "d.jsonl")
    assert dialog.messages == messages and (dialog.id, dialog.pii) == ("q", {"NAME-1": "Ann"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "Who?", "output": ""}, r"messages\[1\]\.content: is empty"),
        ({"instruction": "Who?", "output": "Ann.", "input": 1}, "input: must be a text, is int"),
        (
            {"instruction": "Who?", "output": "Ann.", "history": [["Hi", "Hello"]]},
            "history: earlier turns are not read",
        ),
        ({"prompt": "Who?", "completion": [SAID]}, "formats: alpaca, .* for the fields 'prompt', 'completion'"),
    ],
)
def test_what_is_no_question_and_answer(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_jsonl(tmp_path / "d.jsonl", [row])
    with pytest.raises(NescioError, match=rf"d\.jsonl:1: .*{message}"):
        list(read_dialogs(tmp_path / "d.jsonl"))
