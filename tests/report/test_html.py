import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.core.files import fingerprint
from nescio.report import figures, html, page_tables, table, tradeoffs, verdict
from nescio.report.spans import parts

HOSTILE = "</p><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>{{ 7 * 7 }}&amp;\"'"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Page(HTMLParser):
    """What a test asks of a page: its tags, its text, and its marks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.marks = "", list[list[str]]()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "mark":
            self.marks.append(["", ""])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self.open:
            self.marks[-1]["small" in self.open] += data


def answers_of(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"eval/{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_marks_are_the_spans_worst_answers_first(make_run: Callable[..., Path]) -> None:
    run = make_run()
    page = Page(html.write(run))
    columns = [answers_of(run, name) for name in ("tuned", "trained", "trained-prob-3")]
    order = sorted(range(12), key=lambda at: (-len(columns[2][at]["spans"]), -len(columns[0][at]["spans"])))
    spans = [[span["text"], span["label"]] for at in order for column in columns for span in column[at]["spans"]]
    legend = page.marks.index(["marked", "LABEL"])  # after the answers to callers who asked for it
    assert page.marks[legend + 1 :] == spans


def test_the_page_asks_nothing_of_the_network(make_run: Callable[..., Path]) -> None:
    page = Page(html.write(make_run(hostile=HOSTILE)))
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "foreignobject", "image"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert all((attributes.get(name) or "#").startswith("#") for name in ("src", "href", "xlink:href", "action"))
        assert all("url(#" in value for value in attributes.values() if value and "url(" in value)
    style = page.source.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_without_a_best_row_the_failed_tests_stand_below(make_run: Callable[..., Path]) -> None:
    run = make_run()
    path = run / "eval/results.json"
    failed = [{"test": "words", "figure": "9 % → 1 %", "limit": "at worst −5.0 points", "advice": "train less"}]
    rows = [row | {"best": False, "verdict": failed} for row in json.loads(path.read_text(encoding="utf-8"))]
    path.write_text(json.dumps(rows), encoding="utf-8")
    plain = Page(html.write(run)).text.replace("\u00a0", " ")
    for words in ("No row is best.", "It failed 1 test:", *(each.replace("`", "") for each in verdict.failed(rows))):
        assert words in plain


@pytest.mark.parametrize(
    ("text", "page"),
    [
        (
            "ask more (`nescio evaluate RUN --full`), 9 % → 1 %",
            "ask more (<code>nescio evaluate RUN --full</code>), 9~% → 1~%",
        ),
        ("a <b> & `c<d>`", "a &lt;b&gt; &amp; <code>c&lt;d&gt;</code>"),
        ("one ` alone", "one ` alone"),
        ("`a` and ` alone", "`a` and ` alone"),
    ],
)
def test_commands_in_a_sentence_are_code(text: str, page: str) -> None:
    assert html.prose(text).replace("\u00a0→\u00a0", " → ").replace("\u00a0", "~") == page


def test_text_of_others_stays_text(make_run: Callable[..., Path]) -> None:
    page = Page(html.write(make_run(hostile=HOSTILE)))
    assert page.text.count(HOSTILE) > 3 * 12
    assert "<script" not in page.source and "{{ 7 * 7 }}" in page.source
    assert "tuned" + HOSTILE in page.text


def test_the_verdict_the_table_and_the_making_are_there(make_run: Callable[..., Path]) -> None:
    run = make_run()
    page = Page(html.write(run))
    plain = page.text.replace("\u00a0", " ")
    rows = table.read(run)
    assert all(each in plain for each in (verdict.sentence(rows), *verdict.details(rows))) and "It failed" not in plain
    for word in ("2 min 39 s", "Method: orpo.", "torch", "2.13.0+cpu", "6f4a0118", "★ best", "prob × 3"):
        assert word in plain
    headers = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert headers[:18] == ["col"] * 9 + ["row"] * 9
    assert ("html", {"lang": "en"}) in page.tags
    pictures = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(pictures) == 2 and sum(tag == "svg" for tag, _ in page.tags) == 2
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = {a["href"] for _, a in page.tags if "href" in a}
    assert referred <= {f"#{name}" for name in ids}


def test_at_most_forty_samples_and_among_them_what_the_best_row_leaks(make_run: Callable[..., Path]) -> None:
    run = make_run(samples=48)
    change(run, "tuned", answer="Nothing.", spans=[])  # so that the tuned model's order puts this sample last
    change(run, "trained-prob-3", answer="Yolanda.", spans=[SPAN | {"end": 7}])
    for name in ("tuned", "trained-prob-3"):
        relabel(run, name, pii=sum(len(answer["spans"]) for answer in answers_of(run, name)))
    page = Page(html.write(run))
    assert "40 of 48 samples, the worst answers of trained, prob × 3 first, then those of tuned, unguided" in page.text
    assert sum(tag == "article" for tag, _ in page.tags) == html.MOST_SAMPLES == 40
    assert ["Yolanda", "PERSON"] in page.marks


def test_drawn_again_it_is_the_same_even_when_the_report_is_on_record(make_run: Callable[..., Path]) -> None:
    run = make_run()
    first = html.write(run).read_bytes()
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["stages"]["report"] = {"key": "1", "seconds": 1.0, "outputs": {}}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert html.write(run).read_bytes() == first


def test_empty_recipe_and_manifest_are_enough(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "recipe.yaml").write_text("{}", encoding="utf-8")
    (run / "manifest.json").write_text('{"stages": {"train": {}, "new": {"seconds": null}}}', encoding="utf-8")
    assert "An adapter was trained on the pairs. Method: orpo." in Page(html.write(run)).text


def test_only_measured_columns_are_shown_and_explained(make_run: Callable[..., Path]) -> None:
    run = make_run()
    path = run / "eval/results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    for row in rows:
        row["canned"] = None
        row["over_refusal"] = 0.5 if row["name"] == "tuned" else None
    path.write_text(json.dumps(rows), encoding="utf-8")
    text = Page(html.write(run)).text
    assert "Over-refusal:" in text and "Degenerate:" in text
    assert "Canned:" not in text and "Utility:" not in text and "KL per token" not in text
    table_of_measures = text.partition("Over-refusal:")[2]
    assert table_of_measures.count("50 %") == 1 and table_of_measures.count(table.MISSING) >= len(rows) - 1


@pytest.mark.parametrize("name", ["_base", "a\x07b", "a\ud800b", "<b>|$x$"])
def test_any_label_is_in_the_page_and_in_the_figures(make_run: Callable[..., Path], name: str) -> None:
    run = make_run()
    path = run / "eval/results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows[0] |= {"model": name, "utility": 0.5, "leak_at": {"1": [0.1, 0.0, 0.2]}}
    path.write_text(json.dumps(rows), encoding="utf-8")
    shown = name.replace("\x07", "\N{REPLACEMENT CHARACTER}").replace("\ud800", "\N{REPLACEMENT CHARACTER}")
    page = Page(html.write(run))
    assert shown in page.text and page.open == []
    for figure in (figures.pii_by_scale(rows), tradeoffs.leak_curves(rows), tradeoffs.leak_against_utility(rows)):
        assert shown in "".join(ElementTree.fromstring(figure or "").itertext())


def test_seconds_that_are_no_number_are_left_out(make_run: Callable[..., Path]) -> None:
    run = make_run()
    (run / "manifest.json").write_text('{"stages": {"train": {"seconds": NaN}}}', encoding="utf-8")
    assert "Method: orpo." in Page(html.write(run)).text


def test_labels_that_were_not_counted_are_no_zeros() -> None:
    found = page_tables.labels([{"labels": {"A|<b>": 2, "B": 1}}, {"labels": {"B": 3}}, {"labels": None}])
    assert found == {"names": ["B", "A|<b>"], "cells": [["1", "2"], ["3", "0"], ["–", "–"]]}


def test_shown_falls_back_to_the_best_guided_row() -> None:
    rows = [
        {"name": "tuned", "model": "tuned", "space": None, "pii": 9},
        {"name": "trained", "model": "trained", "space": None, "pii": 3, "best": True},
        {"name": "log", "model": "trained", "space": "log", "pii": 2},
        {"name": "prob", "model": "trained", "space": "prob", "pii": 1},
    ]
    assert [row["name"] for row in html.shown(rows)] == ["tuned", "trained", "prob"]
    assert [row["name"] for row in html.shown(rows[:1])] == ["tuned"]
    baked = {"name": "baked", "model": "baked", "space": None, "pii": 4}
    assert [row["name"] for row in html.shown([*rows, baked])] == ["tuned", "trained", "baked"], "what the run leaves"
    rows[2]["best"] = True
    assert [row["name"] for row in html.shown([*rows, baked])] == ["tuned", "trained", "log"]


def change(run: Path, name: str, **fields: Any) -> None:
    answers = answers_of(run, name)
    answers[0] |= fields
    (run / f"eval/{name}.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")


SPAN = {"start": 0, "end": 2, "label": "PERSON", "text": "Yo"}


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": None}, {"messages": "hello"}, {"messages": [{"role": "user"}]}, {"spans": None}, {"spans": [{}]},
        {"spans": [SPAN | {"end": 9999}]}, {"spans": [SPAN | {"start": -1}]}, {"spans": [SPAN, SPAN]},
        {"spans": [SPAN | {"label": 3}]}, {"id": "another"}, {"dialog_id": None},
    ],
)  # fmt: skip
def test_damaged_answers_name_the_file_and_the_mend(make_run: Callable[..., Path], fields: dict[str, Any]) -> None:
    run = make_run()
    change(run, "trained", **fields)
    with pytest.raises(NescioError, match=r"trained\.jsonl: .*; delete .*eval and run `nescio run` again$") as error:
        html.write(run)
    assert "\n" not in str(error.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("name", ["recipe.yaml", "manifest.json", "eval/tuned.jsonl", "adapter/log.jsonl"])
@pytest.mark.parametrize("content", [None, "{[", "[]", b"\xff\xfe"])
def test_missing_or_damaged_files(make_run: Callable[..., Path], name: str, content: str | bytes | None) -> None:
    run = make_run()
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NescioError, match=rf"{Path(name).name}: .*`nescio run` again$") as error:
        html.write(run)
    assert "\n" not in str(error.value)


def relabel(run: Path, name: str, **fields: Any) -> None:
    """Change a row of a run's results."""
    path = run / "eval/results.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    next(row for row in rows if row["name"] == name).update(fields)
    path.write_text(json.dumps(rows), encoding="utf-8")


def test_answers_of_another_run_are_refused(make_run: Callable[..., Path]) -> None:
    run = make_run()
    refused = r"trained\.jsonl: not the answers that results\.json counts; delete .*eval and run `nescio run` again$"
    relabel(run, "trained", answers_hash=fingerprint(answers_of(run, "trained")))
    html.write(run)
    change(run, "trained", answer=answers_of(run, "trained")[0]["answer"] + " Bye.")
    with pytest.raises(NescioError, match=refused):
        html.write(run)
    relabel(run, "trained", answers_hash=None)
    html.write(run)
    change(run, "trained", answer="", spans=[])
    with pytest.raises(NescioError, match=refused):
        html.write(run)


def test_the_same_names_of_other_samples_are_refused(make_run: Callable[..., Path]) -> None:
    run = make_run()
    change(run, "trained", messages=[{"role": "user", "content": "Something else?"}])
    with pytest.raises(NescioError, match=r"trained\.jsonl: other samples than in tuned\.jsonl; delete"):
        html.write(run)


def test_an_empty_answer_is_said(make_run: Callable[..., Path]) -> None:
    run = make_run()
    lost = answers_of(run, "trained")
    change(run, "trained", answer="", spans=[])
    relabel(run, "trained", pii=sum(len(answer["spans"]) for answer in lost[1:]))
    assert ("em", {"class": "soft"}) in Page(html.write(run)).tags


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=8, unique=True))
def test_parts_join_to_the_text(text: str, cuts: list[int]) -> None:
    edges = sorted(cut for cut in cuts if cut <= len(text))
    spans = [{"start": a, "end": b, "label": "X"} for a, b in zip(edges[::2], edges[1::2], strict=False)]
    cut = parts(text, spans)
    assert "".join(piece for piece, _ in cut) == text
    assert [piece for piece, label in cut if label] == [text[span["start"] : span["end"]] for span in spans]
