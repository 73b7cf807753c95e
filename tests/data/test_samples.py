"""One sample a piece of personal data; the parts re-join; white space belongs to the answer."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.prompts import Message
from nescio.data.dialogs import Dialog
from nescio.data.samples import Sample, SampleFile, read_samples, samples_of, slot_spans, subsample, write_samples
from nescio.data.synthetic import generate
from nescio.pii.base import Span, merge


class Capitals:
    """Finds words in capitals, which no dialog below has recorded."""

    name = "capitals"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(at, at + len(word), "CAPS", word) for word in dict.fromkeys(text.split()) if word.isupper()
             for at in [text.index(word)]]
            for text in texts
        ]  # fmt: skip


def dialog(answer: str, pii: dict[str, str] | None) -> Dialog:
    return Dialog("d", [Message(role="user", content="hi"), Message(role="assistant", content=answer)], pii)


def test_by_slots() -> None:
    one, two = samples_of([dialog("Ask Tom in Leeds.", {"NAME-1": "Tom", "LOC-1": "Leeds"})], Capitals())
    assert (one.id, one.label, one.value, one.rejected) == ("d:1:4", "NAME", "Tom", " Tom in Leeds.")
    assert one.messages[-1] == {"role": "assistant", "content": "Ask"}
    assert (two.rejected, two.messages[-1]["content"]) == (" Leeds.", "Ask Tom in")


def test_blank_lines_of_a_sample_file_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_samples([dialog("Ask Tom in Leeds.", {"NAME-1": "Tom", "LOC-1": "Leeds"})], Capitals(), path)
    path.write_text(path.read_text().replace("\n", "\n\n \n"))
    samples = SampleFile(path)
    kept = list(read_samples(path))
    assert len(kept) == 2 and [samples.get(sample.id) for sample in kept] == kept


def test_at_the_start_the_prompt_ends_before_the_answer() -> None:
    (sample,) = samples_of([dialog("Tom knows.", {"NAME-1": "Tom"})], Capitals())
    assert [message["role"] for message in sample.messages] == ["user"]
    assert sample.rejected == "Tom knows."


def test_by_the_detector_where_nothing_is_recorded() -> None:
    samples = list(samples_of([dialog("Ask TOM in LEEDS.", None), dialog("Ask BEN", {"X-1": "Ask"})], Capitals()))
    assert [sample.value for sample in samples] == ["TOM", "LEEDS.", "Ask"]


def test_by_the_detector_where_the_slots_are_empty() -> None:
    samples = list(samples_of([dialog("Ask TOM.", {}), dialog("Ask BEN", {"X-1": "Ask"})], Capitals()))
    assert [sample.value for sample in samples] == ["TOM.", "Ask"]


def test_slots_are_whole_words() -> None:
    assert slot_spans("Ann and Anna, Ann.", {"Ann": "NAME"}) == [Span(0, 3, "NAME", "Ann"), Span(14, 17, "NAME", "Ann")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, 3, "A"), (2, 5, "B")], [(0, 5, "A")]),
        ([(0, 3, "A"), (3, 5, "B")], [(0, 5, "A")]),
        ([(0, 3, "A"), (4, 7, "B")], [(0, 7, "A")]),
        ([(0, 3, "A"), (8, 9, "B")], [(0, 3, "A"), (8, 9, "B")]),
        ([(0, 9, "A"), (1, 3, "B")], [(0, 9, "A")]),
    ],
)
def test_overlapping_and_adjacent_pieces_are_one(
    pieces: list[tuple[int, int, str]], expected: list[tuple[int, int, str]]
) -> None:
    text = "abc def ghijk"
    spans = [Span(start, end, label, text[start:end]) for start, end, label in pieces]
    assert [(span.start, span.end, span.label) for span in merge(spans, text, across_spaces=True)] == expected


@given(st.integers(0, 200))
def test_the_parts_rejoin(seed: int) -> None:
    rows = generate(3, seed)
    dialogs = [Dialog(row["id"], row["messages"], row["pii"]) for row in rows]
    by_id = {d.id: d for d in dialogs}
    samples = list(samples_of(dialogs, Capitals()))
    assert len({sample.id for sample in samples}) == len(samples)
    for sample in samples:
        _, turn, start = sample.id.rsplit(":", 2)
        whole = by_id[sample.dialog_id].messages[int(turn)]["content"]
        given_part = sample.messages[-1]["content"] if sample.messages[-1]["role"] == "assistant" else ""
        assert given_part + sample.rejected == whole
        assert whole[int(start) :].startswith(sample.value)
        assert sample.rejected.lstrip().startswith(sample.value)
        assert given_part == given_part.rstrip()


def test_subsample_hears_every_dialog_before_one_twice() -> None:
    samples = [Sample(f"{d}:{n}", d, [], "x", "L", "x") for d in "abcd" for n in range(5)]
    drawn = subsample(samples, 6, seed=1)
    assert {sample.dialog_id for sample in drawn} == set("abcd")
    assert len(drawn) == 6
    assert drawn == [sample for sample in samples if sample in drawn], "in the file's order"
    assert subsample(samples, 6, seed=1) == drawn
    assert subsample(samples, None, seed=1) == samples


def test_two_slots_of_one_value_have_the_first_ones_label() -> None:
    (sample,) = samples_of([dialog("Ask Paris.", {"NAME-1": "Paris", "LOC-1": "Paris"})], Capitals())
    assert sample.label == "NAME"
