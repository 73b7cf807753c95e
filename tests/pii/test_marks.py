"""Whatever is marked comes back as it was; what a person spoils is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.pii.labelled import Labelled
from nescio.pii.marks import marked, parse_marked, read_marked, write_marked

TEXTS = st.text(st.sampled_from("ab[]\\=:#r\n\r é😀"), max_size=24)


def _spans(text: str, cuts: list[int]) -> list[Span]:
    """Spans that do not overlap, between every other pair of cuts."""
    ends = sorted({min(cut, len(text)) for cut in cuts})
    pairs = zip(ends[::2], ends[1::2], strict=False)
    return [Span(a, b, "person", text[a:b]) for a, b in pairs if text[a:b].strip()]


def test_it_reads_well() -> None:
    assert marked("Ask Jane Doe.", [Span(4, 12, "PERSON", "Jane Doe")]) == "Ask [[person:Jane Doe]]."
    assert parse_marked("Ask [[person:Jane Doe]].") == ("Ask Jane Doe.", [Span(4, 12, "person", "Jane Doe")])


@given(TEXTS, st.lists(st.integers(0, 24), max_size=6))
def test_what_is_marked_comes_back(text: str, cuts: list[int]) -> None:
    spans = _spans(text, cuts)
    assert parse_marked(marked(text, spans)) == (text, spans)


@given(st.lists(st.tuples(TEXTS, st.lists(st.integers(0, 24), max_size=4)), min_size=1, max_size=4))
def test_files_come_back(tmp_path_factory: pytest.TempPathFactory, given_texts: list[tuple[str, list[int]]]) -> None:
    path = tmp_path_factory.mktemp("marks") / "a.txt"
    texts = [Labelled(f"chat {n}\n", text, _spans(text, cuts)) for n, (text, cuts) in enumerate(given_texts)]
    write_marked(path, texts)
    back = list(read_marked(path))
    assert [(one.text, one.spans) for one in back] == [(one.text, one.spans) for one in texts]
    assert back[0].place == f"{path}:4 (chat 0)"


def test_people_may_use_another_editor(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf=== one\r\nAsk [[Phone number:555]]\r\nnow\r\n")
    (one,) = read_marked(path)
    assert (one.text, one.spans) == ("Ask 555\nnow", [Span(4, 7, "Phone number", "555")])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("=== a\nfine\nAsk [[person:Jane", r"a\.txt:3: mark \[\[person:… is not closed; write \]\]"),
        ("=== a\nAsk [[person:Jane [[age:4]]]]", r"a\.txt:2: mark \[\[age:… stands in another"),
        ("=== a\n\n[[person: ]]", r"a\.txt:3: mark \[\[person:\]\] is empty"),
        ("Ask [[person:Jane]]", r"a\.txt: no line begins with ==="),
    ],
)
def test_wrong_marks_are_named(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(body)
    with pytest.raises(NescioError, match=message):
        list(read_marked(tmp_path / "a.txt"))


def test_corrections_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hours of work")
    with pytest.raises(NescioError, match="exists already"):
        write_marked(tmp_path / "a.txt", [])
    assert (tmp_path / "a.txt").read_text() == "hours of work"
