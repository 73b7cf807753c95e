"""Dialogs of every format: the same come out of each, and a row that cannot be read is named or set aside."""

import json
from pathlib import Path
from typing import Any

import pytest
from dialog_forms import ROWS, TURNS, Blind, as_file

from nescio.core.errors import NescioError
from nescio.core.files import SetAside, read_jsonl, write_jsonl
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import samples_of


@pytest.mark.parametrize("kind", ["ours", "sharegpt", "openai", "llm-pc", "parquet", "saved", "array", "gzip"])
def test_every_format_gives_the_same_dialogs(tmp_path: Path, kind: str) -> None:
    assert [dialog.as_row() for dialog in read_dialogs(as_file(kind, tmp_path))] == ROWS


GOOD = json.dumps(ROWS[0])

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
