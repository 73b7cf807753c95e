"""Where a text says a value: in any Unicode form, with the right offsets."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.text import (
    UNSPACED,
    bare_words,
    count_words,
    fold,
    join_digits,
    numbers_in,
    occurrences,
    said_places,
    sentence_ends,
    sure_sentence_end,
    whole_sentences,
)

WORDS = st.text(alphabet="abcé ñ'-", min_size=1, max_size=12).filter(lambda text: text.strip())


@given(WORDS, st.text(alphabet="xyzü .", max_size=8), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_what_is_put_into_a_text_is_found_there(value: str, around: str, form: str) -> None:
    written = unicodedata.normalize(form, value)  # type: ignore[arg-type]
    text = f"{around} {written} {around}"
    places = occurrences(text, value)
    assert any(" ".join(text[a:b].split()) == " ".join(written.split()) for a, b in places)


@given(st.text(max_size=30), st.text(min_size=1, max_size=4))
def test_places_lie_in_the_text_and_fold_to_the_value(text: str, value: str) -> None:
    wanted = fold(value, ignore_case=True)[0].strip()
    for start, end in occurrences(text, value, whole_words=False, ignore_case=True):
        assert 0 <= start < end <= len(text)
        assert wanted in fold(text[start:end], ignore_case=True)[0]


@pytest.mark.parametrize(
    ("text", "value", "places"),
    [
        ("because of US, us", "US", [(11, 13)]),
        ("José and Josés", "José", [(0, 4)]),
        ("Jose\u0301s and Jose\u0301", "Jose", []),
        ("私は田中です", "田中", [(2, 4)]),
        ("김민수는 김민수에게", "김민수", [(0, 3), (5, 8)]),
        ("\u1100\u1175\u11b7\u1106\u1175\u11ab\u1109\u116e\u1102\u1173\u11ab", "김민수", [(0, 8)]),
        ("Anna는 5월", "Anna", [(0, 4)]),
        ("이순신은", "이수", []),
        ("Ann  Lee", "Ann Lee", [(0, 8)]),
        ("_Ann_ and Annas", "Ann", [(1, 4)]),
        ("\uff15\uff15\uff15\u2011\u0661\u0662", "555-12", [(0, 6)]),
        ("call \u0665\u0665\u0665", "555", [(5, 8)]),
        ("O`Brien", "O'Brien", [(0, 7)]),
        ("anything", "", []),
        ("anything", "\u200b", []),
    ],
)
def test_whole_words(text: str, value: str, places: list[tuple[int, int]]) -> None:
    assert occurrences(text, value) == places


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("anna, Anna, ANNA, aNNa", "anna", ["anna", "Anna", "ANNA"]),
        ("rose, Rose, ROSE, rOSE", "ROSE", ["Rose", "ROSE"]),
        ("mcadam, Mcadam, McAdam, MCADAM", "McAdam", ["Mcadam", "McAdam", "MCADAM"]),
        ("élodie, Élodie, ÉLODIE", "Élodie", ["Élodie", "ÉLODIE"]),
        ("anna lee, Anna lee, aNNa Lee", "Anna Lee", ["anna lee", "Anna lee", "aNNa Lee"]),
    ],
)
def test_a_known_name_is_found_in_the_capitals_of_names(text: str, value: str, said: list[str]) -> None:
    assert [text[start:end] for start, end in said_places(text, value)] == said


def test_a_dotted_capital_i_is_an_i_in_any_case() -> None:
    for text, value in (("\u0130STANBUL", "istanbul"), ("istanbul", "\u0130stanbul"), ("I\u0307stanbul", "istanbul")):
        assert occurrences(f"in {text} now", value, ignore_case=True) == [(3, 3 + len(text))]
    assert occurrences("istanbul", "\u0130stanbul") == []


@given(st.text(max_size=40).filter(lambda text: not UNSPACED.search(text)))
def test_words_between_spaces_are_counted_as_they_stand(text: str) -> None:
    assert count_words(text) == len(text.split())


@pytest.mark.parametrize(
    ("text", "count", "bare"),
    [
        ("Yes - it's 5 p.m.", 5, ["yes", "it's", "5", "p.m"]),
        ("안녕하세요, 김민수입니다.", 2, ["안녕하세요", "김민수입니다"]),
        ("北京。", 1, ["北", "京"]),
        ("好,我们去Python公园!", 4, ["好", "我", "们", "去", "python", "公", "园"]),
        ("東京タワーへ行きます。", 5, list("東京タワーへ行きます")),
        ("สวัสดีครับ", 3, list("สวสดครบ")),
    ],
)
def test_scripts_without_spaces_have_words_too(text: str, count: int, bare: list[str]) -> None:
    assert (count_words(text), bare_words(text)) == (count, bare)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Call (415) - 555-0101, 20 minutes.", ["4155550101", "20"]),
        ("In 2013. 20 people, 1,000 each", ["2013", "20", "1000"]),
        ("12 Oak Street, 37207", ["12", "37207"]),
        ("nothing", []),
    ],
)
def test_a_number_has_marks_and_a_list_is_many(text: str, numbers: list[str]) -> None:
    assert numbers_in(text) == numbers


def test_digits_that_stand_alone_are_one_number() -> None:
    assert (
        join_digits("It is 4 1 5 - 5 5 5, or 1, 2, 3; not 41 5 or 5 41.")
        == "It is 415555, or 1, 2, 3; not 41 5 or 5 41."
    )


def test_sentence_ends() -> None:
    text = 'Come at 5 p.m. on Friday. Ask Mr. van Dyke ("now!"). 3.5 is fine\u2026 \u5b8c\u4e86\u3002Yes'
    ends = [text[:end].rsplit(maxsplit=1)[-1] for end in sentence_ends(text)]
    assert ends == ["Friday.", '("now!").', "fine\u2026", "\u5b8c\u4e86\u3002"]
    assert whole_sentences("It is open. Come at 5 p.m. on") == "It is open."


@pytest.mark.parametrize(
    ("text", "end"),
    [("Hello there. Now", 13), ("Hello there. ", None), ("It is 3.", None), ("ask Dr. J. Smith", None), ("a\n b", 3)],
)
def test_a_sentence_has_ended_for_sure_when_the_next_has_begun(text: str, end: int | None) -> None:
    assert sure_sentence_end(text, 400) == end
    assert sure_sentence_end(text, 5) == (end if end == 3 else None)
