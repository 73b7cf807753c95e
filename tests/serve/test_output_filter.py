"""The output audit: nothing leaves unchecked, whatever the chunks."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nescio.pii.base import Detector, Span
from nescio.pii.registry import load_detector
from nescio.serve.audit import Audit
from nescio.serve.checker import Checked, Checker, FilterError
from nescio.serve.output_filter import OutputFilter

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
    audit = OutputFilter(Checker(detector or Known(), Audit.model_validate(mode)))
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
@example(
    text=f"{'Anna Ferrari' * 9}. {'x' * 98}. ! Anna Ferrari"
)  # what is sent was seen before the last look at the rest
def test_nothing_is_sent_before_it_was_seen(text: str) -> None:
    detector = Known()
    audit = OutputFilter(Checker(detector, Audit.model_validate("count")))
    sent = ""
    for character in text:
        looks = len(detector.seen)
        for part in audit.feed(character):
            sent += part.text
            assert any(part.text in seen for seen in detector.seen[max(looks - 1, 0) :]), "whole, in one look"
    longest = max(map(len, text.split()), default=0)
    assert len(text) - len(sent) <= 400 + longest, "what is held back is bounded; no word is cut"


def test_a_name_across_chunks_and_across_a_forced_cut() -> None:
    assert run(["It is An", "na Fer", "rari, in Gen", "eva. Bye."])[0] == "It is [PII], in [PII]. Bye."
    for before in range(150, 420):
        sent, _ = run([f"{'a ' * (before // 2)}Anna Maria Ferrari{' b' * 300}"])
        assert "[PII]" in sent
        assert "Anna" not in sent
        assert "Ferrari" not in sent


def test_sentences_leave_one_by_one() -> None:
    audit = OutputFilter(Checker(Known(), Audit.model_validate("mask")))
    assert audit.feed("Hello there. ") == []
    assert [part.text for part in audit.feed("Now")] == ["Hello there. "]
    assert audit.feed(" ask Dr. J. Smith") == [], "an abbreviation ends no sentence"
    assert [part.text for part in audit.feed("?\nOr")] == ["Now ask Dr. J. Smith?\n"]
    assert [part.text for part in audit.finish()] == ["Or"]


def test_blocking_ends_before_the_sentence() -> None:
    audit = OutputFilter(Checker(Known(), Audit.model_validate("block")))
    sent = "".join(part.text for part in audit.feed("All fine. Then Anna Ferrari came. And more. "))
    assert (sent, audit.blocked) == ("All fine. ", True)
    assert audit.feed("Anything. At all. ") == []
    assert audit.finish() == []


@pytest.mark.parametrize("mode", ["count", "mask", "block"])
def test_a_detector_that_fails_withholds(mode: str) -> None:
    audit = OutputFilter(Checker(Broken(at=1), Audit.model_validate(mode)))
    assert [part.text for part in audit.feed("First words. Second")] == ["First words. "]
    with pytest.raises(FilterError):
        audit.feed(" words. Third")


def test_checks_are_timed() -> None:
    seconds: list[float] = []
    OutputFilter(Checker(Known(), Audit.model_validate("count"), seconds.append)).feed("One word. Two words. Three")
    assert len(seconds) == 2
    assert min(seconds) >= 0


@given(TEXTS, st.integers(1, 60), st.sampled_from(["mask", "block", "count"]))
def test_it_is_known_beforehand_when_the_detector_is_asked(text: str, size: int, mode: str) -> None:
    """So that an event loop never waits for it."""
    seconds: list[float] = []
    audit = OutputFilter(Checker(Known(), Audit.model_validate(mode), seconds.append))
    for start in range(0, len(text), size):
        before, chunk = len(seconds), text[start : start + size]
        takes_long = audit.asks_detector(chunk)
        audit.feed(chunk)
        assert takes_long == (len(seconds) > before)


def test_with_spacy() -> None:
    detector = load_detector("spacy:en_core_web_sm")
    text = "My name is Anna Ferrari. I moved to Geneva in May. It rains."
    assert run(list(text), "mask", detector)[0] == "My name is [PERSON]. I moved to [GPE] in May. It rains."


PLANTED = {
    "person": "Dr. Anna Maria von Ferrari-Smith", "organisation": "Bank of the West AG", "place": "Geneva",
    "address": "12 Rue de la Paix,\n75002 Paris", "phone": "+41 (0)22 555 01 42", "email": "anna.ferrari@example.com",
    "url": "https://example.com/anna?id=12", "ip": "2001:db8::8a2e:370:7334", "birth_date": "5 May 1970",
    "national_id": "756.1234.5678.97", "licence": "X 0123456 B", "card": "4111 1111 1111 1111",
    "account": "CH93 0076 2011 6238 5295 7", "secret": "hunter2!", "medical": "MRN 00-12-34", "money": "CHF 1'200.50",
    "date": "2026-11-28", "age": "42 years",
}  # fmt: skip
CARRIERS = (
    "I'd be happy to help you with that, and the entry that you asked about is {} as far as i can see from here",
    "{} is what is written there, so please do not share it with anyone who has not been asked to see it",
    "Sure. It is {}. Is there anything else that you would like to know about the matter today",
    "Here is the list:\n- first {}\n- then nothing more that would matter to you or to anybody else",
)


class Whole:
    """The worst detector that still works: it finds a piece only if it sees all of it."""

    name = "whole"

    def __init__(self, piece: str) -> None:
        self.piece = piece

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(m.start(), m.end(), "PII", m[0]) for m in re.finditer(re.escape(self.piece), text)] for text in texts
        ]


@pytest.mark.parametrize("kind", PLANTED)
def test_no_planted_piece_leaves_wherever_the_answer_is_cut(kind: str) -> None:
    piece = PLANTED[kind]
    for carrier in CARRIERS:
        for padding in range(0, 220, 7):  # moves the piece across the places where the filter cuts
            text = f"{('so it goes on ' * 30)[:padding]} ".lstrip() + carrier.format(piece)
            want = text.replace(piece, "[PII]")
            assert run([text], "mask", Whole(piece))[0] == want, padding
            start = text.index(piece)
            for at in {start, start + 1 + padding % len(piece), start + len(piece)}:
                assert run([text[:at], text[at:]], "mask", Whole(piece))[0] == want, (padding, at)
            sent, _ = run([text], "block", Whole(piece))
            assert text.startswith(sent)
            assert len(sent) <= start, "nothing of the piece, however little"


def broken_off(text: str, detector: Detector, mode: str = "mask") -> str:
    audit = OutputFilter(Checker(detector, Audit.model_validate(mode)))
    return "".join(part.text for part in [*audit.feed(text), *audit.finish(cut=True)])


@pytest.mark.parametrize("kind", PLANTED)
def test_no_piece_leaves_where_an_answer_breaks_off_inside_it(kind: str) -> None:
    piece = PLANTED[kind]
    for carrier in CARRIERS:
        text = carrier.format(piece)
        start = text.index(piece)
        for end in range(start + 1, start + len(piece) + 1):
            sent = broken_off(text[:end], Whole(piece))
            assert text.startswith(sent.removesuffix("[PII]")) and len(sent.removesuffix("[PII]")) <= start, end
            assert text[:start].startswith(broken_off(text[:end], Whole(piece), "block")), end
            audit = OutputFilter(Checker(Whole(piece), Audit.model_validate("block")))
            assert ([*audit.feed(text[:end]), *audit.finish(cut=True)], audit.blocked)[1] == (piece in text[:end])
            assert broken_off(text[:end], Whole(piece), "count") == text[:end], "nothing is hidden"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The report was sent to all of the people who ask", "The report was sent to all of the people who "),
        ("The report was sent to all of the people who asked ", None),
        ("Sure. It is fine. Then the", "Sure. It is fine. "),
        ("Take " + "Apples, " * 20 + "Pea", "Take " + "Apples, " * 11),
        ("She works at the Bank of the Wes", "She works at the "),
        ("It is Anna Ferr", "It is [PII]"),
        ("It is Anna Ferrari, and 555-1", "It is [PII]"),
        ("It is Anna Ferrari, who is at 555-", "It is [PII], who is at "),
        ("It is Anna Ferrari, 555-1 Gen", "It is [PII], [PII]"),
        ("It is Leeds, Geneva", "It is "),
        ("她住在很远的地方，电话是12", "她住在很远的地方，"),
        ("वह बहुत दूर रहती है, उसका नाम अन", "वह बहुत दूर रहती है, "),
        ("Yes", ""),
        ("", ""),
    ],
)
def test_an_answer_that_breaks_off_loses_its_last_words(text: str, left: str | None) -> None:
    class Parts(Known):
        def find(self, texts: Sequence[str]) -> list[list[Span]]:
            names = re.compile(rf"Anna(?: Ferr\w*)?|{NAMES.pattern}")
            return [[Span(m.start(), m.end(), "PII", m[0]) for m in names.finditer(text)] for text in texts]

    assert broken_off(text, Parts()) == (text if left is None else left)


@pytest.mark.parametrize(
    "piece",
    ["anna ferrari", "anna von ferrari", "maria de la cruz", "bank of the west", "marks and spencer",
     "twelve baker street", "born on may third", "correct horse battery staple"],
)  # fmt: skip
def test_personal_data_in_small_letters_is_seen_whole(piece: str) -> None:
    for before in ("", "i think that the ", "so it goes on and on, with a word for each of us, " * 4):
        text = f"{before}{piece} is not what you want to know about here, so let us go on"
        assert run(list(text), "mask", Whole(piece))[0] == text.replace(piece, "[PII]")


def test_the_first_clause_leaves_early_and_later_ones_where_a_sentence_is_long() -> None:
    audit = OutputFilter(Checker(Known(), Audit.model_validate("mask")))
    text = "The story of a walk by the sea " + "is long and it goes on for the whole of the day " * 5
    parts = [(at, part.text) for at in range(len(text)) for part in audit.feed(text[at])]
    assert parts[0] == (len("The story of a walk by "), "The story of a ")
    assert [len(part) >= 160 for _, part in parts[1:]] == [True], "each check costs time"


def test_what_lies_across_a_clause_s_end_is_waited_for() -> None:
    text = "we saw that anna maria of the sea was at the house and it was fine"
    assert (
        run(list(text), "mask", Whole("anna maria of the sea was at the house"))[0]
        == "we saw that [PII] and it was fine"
    )


@pytest.mark.parametrize("length", [300, 500, 3000])
def test_a_long_word_is_never_cut(length: int) -> None:
    key = "eyJ" + "x7" * (length // 2)
    for around in ("The key is {} and no other.", "{}", "a word " * 40 + "{}"):
        assert run(list(around.format(key)), "mask", Whole(key))[0] == around.format("[PII]")


def test_a_mark_before_a_small_letter_ends_no_sentence() -> None:
    piece = "Acme Corp. of Leeds"
    assert run(list(f"It is {piece}. And so on"), "mask", Whole(piece))[0] == "It is [PII]. And so on"


def test_what_the_answer_follows_is_read_with_it() -> None:
    detector = load_detector("regex")

    def answer(asked: str, text: str) -> str:
        audit = OutputFilter(Checker(detector, Audit.model_validate("mask")), asked)
        return "".join(part.text for part in [*audit.feed(text), *audit.finish()])

    assert answer("When was she born? What is her date of birth?\n", "3 May 1981.") == "[BIRTH_DATE]."
    assert answer("Her telephone number is 020 79", "46 0018, I think.") == "[PHONE], I think."
    assert answer("Write to me at anna.ferr", "ari@example.com") == "[EMAIL]"
    assert answer("The password is hunt3", "rabcd, as you know") == "[PASSWORD], as you know"
    assert answer("order number ", "020 7946 0018") == "[PHONE]", "the caller takes nothing away"
    assert answer("Write to me@example.com.\n", "I will.") == "I will."
