"""The output audit: nothing leaves unchecked, whatever the chunks."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.pii.base import Detector, Span
from nescio.pii.registry import load_detector
from nescio.serve.output_filter import Checked, FilterError, OutputFilter

NAMES = re.compile(r"Anna(?: Maria)? Ferrari|Geneva|555-\d+")


class Known:
    """Finds what `NAMES` matches, so that what must be found is known; keeps what it was shown."""

    name = "known"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        self.seen += texts
        return [[Span(m.start(), m.end(), "PII", m[0]) for m in NAMES.finditer(text)] for text in texts]


class Broken:
    """Fails when it is asked for the n-th time."""

    name = "broken"

    def __init__(self, at: int) -> None:
        self.left = at

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("out of memory")
        return [[] for _ in texts]


def run(chunks: Sequence[str], mode: str = "mask", detector: Detector | None = None) -> tuple[str, list[Checked]]:
    audit = OutputFilter(detector or Known(), mode)  # type: ignore[arg-type]
    parts = [part for chunk in chunks for part in audit.feed(chunk)] + audit.finish()
    return "".join(part.text for part in parts), parts


TEXTS = st.lists(
    st.sampled_from(
        ["Anna Ferrari", "Anna", " Ferrari", " Maria", "Geneva", "555-1", "42", ". ", "! ", "? ", "\n", " ", "well ",
         "a sentence that goes on and on, ", "Dr. ", "x" * 90, "é漢。", "？", "…", '."  ', "3.5"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(text=TEXTS, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=20), mode=st.sampled_from(["count", "mask"]))
def test_what_is_sent_does_not_depend_on_the_chunks(text: str, cuts: list[int], mode: str) -> None:
    chunks, rest = [], text
    for size in cuts * (len(text) + 1):
        chunks.append(rest[:size])
        rest = rest[size:]
        if not rest:
            break
    assert run(chunks, mode)[0] == run([text], mode)[0] == run(list(text), mode)[0]


@given(text=TEXTS)
def test_counting_changes_nothing_and_marks_lie_on_the_text(text: str) -> None:
    sent, parts = run(list(text), "count")
    assert sent == text
    assert all(sent[span.start : span.end] == span.text for part in parts for span in part.spans)
    masked, parts = run(list(text), "mask")
    assert all(masked[span.start : span.end] == "[PII]" for part in parts for span in part.spans)


@given(text=TEXTS)
def test_no_whole_piece_of_personal_data_is_sent(text: str) -> None:
    assert not NAMES.search(run(list(text), "mask")[0])
    sent, _ = run(list(text), "block")
    assert not NAMES.search(sent)
    assert text.startswith(sent)


@given(text=TEXTS)
def test_nothing_is_sent_before_it_was_seen(text: str) -> None:
    detector = Known()
    audit = OutputFilter(detector, "count")
    sent = ""
    for character in text:
        for part in audit.feed(character):
            sent += part.text
            assert part.text in detector.seen[-1]
    assert len(text) - len(sent) <= 400, "what is held back is bounded"


def test_a_name_across_chunks_and_across_a_forced_cut() -> None:
    assert run(["It is An", "na Fer", "rari, in Gen", "eva. Bye."])[0] == "It is [PII], in [PII]. Bye."
    for before in range(150, 420):
        sent, _ = run([f"{'a ' * (before // 2)}Anna Maria Ferrari{' b' * 300}"])
        assert "[PII]" in sent
        assert "Anna" not in sent
        assert "Ferrari" not in sent


def test_sentences_leave_one_by_one() -> None:
    audit = OutputFilter(Known(), "mask")
    assert audit.feed("Hello there. ") == []
    assert [part.text for part in audit.feed("Now")] == ["Hello there. "]
    assert audit.feed(" ask Dr. J. Smith") == [], "an abbreviation ends no sentence"
    assert [part.text for part in audit.feed("?\nOr")] == ["Now ask Dr. J. Smith?\n"]
    assert [part.text for part in audit.finish()] == ["Or"]


def test_blocking_ends_before_the_sentence() -> None:
    audit = OutputFilter(Known(), "block")
    sent = "".join(part.text for part in audit.feed("All fine. Then Anna Ferrari came. And more. "))
    assert (sent, audit.blocked) == ("All fine. ", True)
    assert audit.feed("Anything. At all. ") == []
    assert audit.finish() == []


@pytest.mark.parametrize("mode", ["count", "mask", "block"])
def test_a_detector_that_fails_withholds(mode: str) -> None:
    audit = OutputFilter(Broken(at=1), mode)  # type: ignore[arg-type]
    assert [part.text for part in audit.feed("First words. Second")] == ["First words. "]
    with pytest.raises(FilterError):
        audit.feed(" words. Third")


def test_checks_are_timed() -> None:
    seconds: list[float] = []
    OutputFilter(Known(), "count", seconds.append).feed("One word. Two words. Three")
    assert len(seconds) == 2
    assert min(seconds) >= 0


def test_with_spacy() -> None:
    detector = load_detector("spacy:en_core_web_sm")
    text = "My name is Anna Ferrari. I moved to Geneva in May. It rains."
    assert run(list(text), "mask", detector)[0] == "My name is [PERSON]. I moved to [GPE] in May. It rains."
