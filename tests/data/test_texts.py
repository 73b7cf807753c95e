"""Texts come from every kind of file, whole and with their places; nothing is left out without a word."""

import json
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.core.files import write_jsonl
from nescio.data.labelled import labelled_texts
from nescio.data.synthetic import generate, scrubbed
from nescio.data.texts import paragraphs, read_texts
from nescio.pii.base import Span
from nescio.pii.labelled import Labelled
from nescio.pii.marks import write_marked

TURNS = [{"role": "user", "content": "I am Ann."}, {"role": "assistant", "content": "Hello Ann of Leeds."}]


def test_a_folder_of_everything(tmp_path: Path) -> None:
    notes: list[str] = []
    (tmp_path / "in/.git").mkdir(parents=True)
    (tmp_path / "in/.git/config").write_text("hidden")
    (tmp_path / "in/a.jsonl").write_text(json.dumps({"messages": TURNS}))
    (tmp_path / "in/b.json").write_text(
        json.dumps([{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ann?"}]}])
    )
    (tmp_path / "in/c.jsonl").write_text('"one"\n\n{"content": "two"}')
    (tmp_path / "in/d.json").write_text('{\n  "name": "Ann"\n}')
    (tmp_path / "in/e.csv").write_bytes(b"name\r\nAnn\r\n\r\n \r\nBob")
    (tmp_path / "in/f.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    found = [
        (one.place.removeprefix(f"{tmp_path}/in/"), one.text) for one in read_texts(tmp_path / "in", note=notes.append)
    ]
    assert found == [
        ("a.jsonl: dialog a-1, messages[0]", "I am Ann."),
        ("a.jsonl: dialog a-1, messages[1]", "Hello Ann of Leeds."),
        ("b.json: dialog b-1, messages[0]", "Hi"),
        ("b.json: dialog b-1, messages[1]", "Ann?"),
        ("c.jsonl:1", "one"),
        ("c.jsonl:3", "two"),
        ("d.json", '{\n  "name": "Ann"\n}'),
        ("e.csv", "name\r\nAnn\r"),
        ("e.csv", "Bob"),
    ]
    assert notes == [f"{tmp_path}/in/f.png: no text, left out"]


def test_slots_of_llm_pc_are_filled(tmp_path: Path) -> None:
    rows = generate(3, seed=1)
    turns = "".join(
        f"<|start_header_id|>{m['role']}<|end_header_id|>\n\n{m['content']}<|eot_id|>" for m in scrubbed(rows[0])
    )
    write_jsonl(tmp_path / "scrubbed-data.jsonl", [{"idx": 1, "messages": turns}])
    write_jsonl(tmp_path / "pii.jsonl", [rows[0]["pii"]])
    for source in (tmp_path, tmp_path / "*.jsonl"):
        notes: list[str] = []
        assert [one.text for one in read_texts(source, note=notes.append)] == [
            m["content"] for m in rows[0]["messages"]
        ]
        assert notes == [f"{tmp_path}/pii.jsonl: slot values, read with {tmp_path}/scrubbed-data.jsonl"]


@pytest.mark.parametrize("name", ["scrubbed.jsonl", "scrubbed-data.txt", "scrubbed.png"])
def test_a_file_beside_a_scrubbed_one_is_read_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\0" if name.endswith("png") else b'"scrubbed"\n')
    (tmp_path / f"pii{Path(name).suffix}").write_text('"Ann"\n')
    assert any("Ann" in one.text for one in read_texts(tmp_path))


def test_paragraphs_have_the_lines_they_begin_on(tmp_path: Path) -> None:
    text = "a\nb\n\n\nc\n \nd"
    (tmp_path / "a.txt").write_text(text)
    found = list(read_texts(tmp_path / "a.txt"))
    assert [(one.text, one.at(0)[-2:]) for one in found] == [("a\nb", ":1"), ("c", ":5"), ("d", ":7")]
    assert "".join(paragraphs(tmp_path / "a.txt")) == text


def test_answers_of_a_run_are_rows_not_conversations(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "tuned.jsonl", [{"messages": TURNS[:1], "answer": "Ann lives in Leeds."}])
    assert [one.text for one in read_texts(tmp_path / "tuned.jsonl")] == ["Ann lives in Leeds."]


def test_a_run_s_begun_answers_are_rows_too(tmp_path: Path) -> None:
    row = {"dialog_id": "x", "messages": TURNS, "answer": "Ann lives in Leeds.", "spans": []}
    write_jsonl(tmp_path / "tuned.jsonl", [row])
    notes: list[str] = []
    assert [one.text for one in read_texts(tmp_path / "tuned.jsonl", note=notes.append)] == ["Ann lives in Leeds."]
    assert notes == [f"{tmp_path}/tuned.jsonl: rows of answers; the field answer is read, and messages is left out"]


@pytest.mark.parametrize("field", ["text", "answer", "content"])
@pytest.mark.parametrize("turns", ["messages", "conversations"])
def test_a_conversation_beside_a_text_is_read(tmp_path: Path, field: str, turns: str) -> None:
    write_jsonl(tmp_path / "tickets.jsonl", [{field: "ticket", turns: TURNS}, {turns: TURNS}])
    notes: list[str] = []
    found = [one.text for one in read_texts(tmp_path / "tickets.jsonl", note=notes.append)]
    assert found == 2 * [turn["content"] for turn in TURNS]
    (note,) = notes
    assert f"{turns} is read, and the field {field} is left out (--field {field} reads it)" in note
    write_jsonl(tmp_path / "tickets.jsonl", [{field: "ticket", turns: TURNS}])
    assert [one.text for one in read_texts(tmp_path / "tickets.jsonl", field)] == ["ticket"]


def test_a_conversation_among_texts_is_refused_not_left_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"text": "ticket", "messages": []}, {"text": "ticket", "messages": TURNS}])
    with pytest.raises(NescioError, match=r"a\.jsonl:2: is a conversation, .*--field"):
        list(read_texts(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(("name", "content"), [("a.bin", b"\0\1"), ("b.txt", b"\xff\xfe\xfa")])
def test_a_named_file_that_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NescioError, match=rf"{name}: neither text in UTF-8 nor a file of rows"):
        list(read_texts(tmp_path / name))


def test_labelled_texts_of_every_form(tmp_path: Path) -> None:
    spans = [Span(6, 9, "NAME", "Ann"), Span(13, 18, "LOC", "Leeds")]
    row = {"id": "x", "messages": TURNS, "pii": {"NAME-1": "Ann", "LOC-1": "Leeds"}}
    write_jsonl(tmp_path / "dialogs.jsonl", [row])
    write_jsonl(tmp_path / "texts.jsonl", [
        {"text": TURNS[1]["content"], "spans": [{"start": s.start, "end": s.end, "label": s.label} for s in spans]}
    ])  # fmt: skip
    write_marked(tmp_path / "marks.txt", [Labelled("x", TURNS[1]["content"], spans)])
    (first, second) = labelled_texts(tmp_path / "dialogs.jsonl")
    assert (first.spans, second.spans) == ([Span(5, 8, "NAME", "Ann")], spans)
    assert second.place == "dialog x, messages[1]"
    (of_row,), (of_marks,) = (list(labelled_texts(tmp_path / name)) for name in ("texts.jsonl", "marks.txt"))
    assert of_row.spans == spans
    assert [(span.start, span.end, span.type) for span in of_marks.spans] == [(6, 9, "person"), (13, 18, "place")]


def test_dialogs_without_slots_are_no_labels(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"messages": TURNS, "pii": {}}, {"messages": TURNS}])
    with pytest.raises(NescioError, match=r"a\.jsonl: dialog 'a-2': pii: missing; give its slots .*--sample 50"):
        list(labelled_texts(tmp_path / "a.jsonl"))


def test_labelled_texts_in_an_indented_array(tmp_path: Path) -> None:
    dialog = {"messages": TURNS, "pii": {"LOC-1": "Leeds"}}
    text = {"text": "Ann!", "spans": [{"start": 0, "end": 3, "label": "NAME"}]}
    for row, spans in ((dialog, [[], [Span(13, 18, "LOC", "Leeds")]]), (text, [[Span(0, 3, "NAME", "Ann")]])):
        (tmp_path / "a.json").write_text(json.dumps([row], indent=2))
        assert [one.spans for one in labelled_texts(tmp_path / "a.json")] == spans


@pytest.mark.parametrize("name", ["", "conf.json"])
@pytest.mark.parametrize("content", ['{"by": "Ann"}', '[{"by": "Ann"}]', "[1, 2]"])
def test_json_without_a_text_field_is_plain_text(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "conf.json").write_text(content)
    assert [one.text for one in read_texts(tmp_path / name)] == [content]
    with pytest.raises(NescioError, match=r"conf\.json:1: neither a text nor an object with to; name it with --field"):
        list(read_texts(tmp_path / name, field="to"))
