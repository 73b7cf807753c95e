"""The plain form of a text: what it is, and that places in it lead back to the text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.pii.plain_text import plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ann Lee, 12", "Ann Lee, 12"),
        ("Zoë — «ok» 🙂👩‍👧", "Zoë — «ok» 🙂👩👧"),
        ("An\u00adna\u200b", "Anna"),
        ("a\u00a0b\u2009c", "a b c"),
        ("555\u20110132", "555-0132"),
        ("４１１１ ٤٢ १२", "4111 42 12"),
        ("Jose\u0301", "José"),
        ("𝐀𝐧𝐧 ＠ｍａｉｌ", "Ann @mail"),
        ("\u202a+49 30\u202c", "+49 30"),
        (r'{"to": "\u0061nna@example.org', '{"to": "anna@example.org'),
        (r"4\u0663 \u00e9", "43 é"),
        (r"half of a pair: \ud83d", r"half of a pair: \ud83d"),
        ("half of a pair: \ud83d, 12", "half of a pair: \N{REPLACEMENT CHARACTER}, 12"),
    ],
)
def test_it_reads_as_people_read_it(text: str, plain: str) -> None:
    assert plain_text(text).text == plain


ODD = st.text(st.sampled_from("aé1٤４-\u2011\u00a0\u200b\u00ad\u0301\u202e🙂ｍ𝐀 \n"), max_size=40)


@given(ODD)
def test_places_lead_back_and_lose_nothing(text: str) -> None:
    form = plain_text(text)
    end = 0
    for place in range(len(form.text)):
        start, after = form.place(place, place + 1)
        assert text[start:after]
        assert start >= end or (start, after) == form.place(place - 1, place), "one may become two, in one place"
        end = after
        letter = unicodedata.normalize("NFKC", text[start:after])
        assert form.text[place] in letter or form.text[place] in " -0123456789"
    visible = [character for character in text if character not in "\u200b\u00ad\u202e\u0301"]
    assert len(unicodedata.normalize("NFC", "".join(visible))) <= len(form.text) + text.count("\u0301")
