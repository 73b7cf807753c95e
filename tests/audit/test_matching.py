"""What counts as said: a value in any of its usual forms, and a part that tells."""

import pytest

from nescio.audit.matching import gives_away, match, places, spans
from nescio.pii.taxonomy import PiiType


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("Anna Ferrari", "person", "It was ANNA  FERRARI, I think."),
        ("José Núñez", "person", "his name is Jose Nunez."),
        ("Jose Nunez", "person", "his name is José Nu\u0301n\u0303ez."),
        ("Smith-Jones, Mary", "person", "Smith Jones Mary"),
        ("+1 415 555 0101", "phone", "call (415) 555-0101 today"),
        ("415-555-0101", "phone", "+14155550101"),
        ("+44 20 7946 0958", "phone", "020 7946 0958"),
        ("415-555-0101", "phone", "\uff14\uff11\uff15 555 0101"),
        ("020 7946 0958", "phone", "+44 (0)20 7946 0958"),
        ("+44 (0)20 7946 0958", "phone", "00442079460958"),
        ("+33 1 23 45 67 89", "phone", "01 23 45 67 89"),
        ("555-0101", "phone", "(415) 555-0101"),
        ("(415) 555-0101", "phone", "in 2013 it was +1 (415) - 555 - 0101, 24/7"),
        ("(415) 555-0101", "phone", "4 1 5 5 5 5 0 1 0 1"),
        ("4111 1111 1111 1111", "card", "4111111111111111."),
        ("GB29 NWBK 6016 1331 9268 19", "account", "gb29nwbk60161331926819"),
        ("ann.lee@example.com", "email", "Write to Ann.Lee@Example.com."),
        ("ann.lee@example.com", "email", "ann.lee at example dot com"),
        ("ann.lee@example.com", "email", "ann.lee [at] example (dot) com"),
        ("1987-05-03", "birth_date", "born on 3 May 1987"),
        ("3 May 1987", "birth_date", "on May 3rd, 1987"),
        ("May 3, 1987", "birth_date", "geboren am 3. Mai 1987"),
        ("May 3, 1987", "birth_date", "03/05/1987"),
        ("May 3, 1987", "birth_date", "5/3/87"),
        ("le 3 août 1987", "birth_date", "August 3, 1987"),
        ("1987-05-03", "birth_date", "19870503"),
        ("June 2021", "date", "We met in June, 2021."),
        ("août 1987", "date", "in aout 1987"),
        ("summer of '69", "date", "in the Summer of ’69."),
        ("May 3", "date", "We met on May 3rd, 2024."),
        ("3 May", "birth_date", "born on May 3, 1987"),
        ("12, Baker Street", "address", "at 12 Baker Street"),
        ("London", "place", "in london."),
        ("+1 415-555-0101 x204", "phone", "call 415-555-0101"),
        ("415-555-0101 ext. 204", "phone", "(415) 555 0101, extension 204"),
        ("415-555-0101 (ext 204)", "phone", "+1 415 555 0101"),
        ("415-555-0101 #204", "phone", "4155550101"),
        ("+49 30 9018200 Durchwahl 204", "phone", "030 9018200"),
        ("tel:+1-415-555-0101;ext=204", "phone", "415-555-0101x204"),
        ("+1 415-555-0101,204", "phone", "415-555-0101"),
        ("5550 x204", "phone", "dial 5550"),
        ("03-May-1987", "birth_date", "May 3, 1987"),
        ("May 3, 1987", "birth_date", "on 3-May-87."),
        ("3 May 1987", "birth_date", "1987-May-03, or May-03-1987"),
        ("1987-05-03T00:00:00", "birth_date", "on May 3rd, 1987"),
        ("May 3, 1987", "birth_date", "1987-05-03T12:30:00.000Z"),
        ("19870503", "birth_date", "May 3, 1987"),
        ("May 3, 1987", "birth_date", "born 19870503."),
        ("03.05.1987", "birth_date", "am 3. 5. 1987"),
        ("1987-05-03", "birth_date", "生于1987年5月3日"),
        ("1987-05-03", "birth_date", "op 3 mei 1987"),
        ("52000", "money", "It is $52,000."),
        ("52000", "money", "52.000 EUR"),
        ("52,000", "money", "USD52000.00 a year"),
        ("$52,000.50", "money", "52.000,50 €"),
        ("12345", "other", "It is 12 345, I think."),
        ("12 345", "other", "12'345"),
        ("1250000 EUR", "money", "€1,250,000"),
        ("52000", "money", "52,000 12 times"),
        ("52000", "money", "52,000-60,000"),
        ("Ann Lee", "person", "Lee, Ann: absent"),
        ("Lee, Ann", "person", "Ask Ann Lee."),
        ("Lee, Ann, Ph.D.", "person", "Ask Ann Lee."),
        ("Ann Lee, PhD", "person", "Ask Ann Lee."),
        ("Jan van der Berg", "person", "van der Berg, Jan"),
        ("mailto:ann@x.example", "email", "it is ann@x.example"),
        ("Ann Lee <ann@x.example>", "email", "ann at x dot example"),
        ("ann@x.example", "email", "Ann Lee <mailto:ann@x.example>"),
    ],
)  # fmt: skip
def test_the_forms_of_a_value_are_one(value: str, kind: PiiType, text: str) -> None:
    assert match(text, value, kind) == "exact"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("Anna Ferrari", "person", "ask the Ferrari family"),
        ("+1 415 555 0101", "phone", "it ends in 0101"),
        ("(415) 555-0101", "phone", "call (315) 555-0101"),  # somebody else's
        ("+1 415-555-0101", "phone", "13155550101"),
        ("911-11-1111", "account", "9111111111111111111111111111111"),
        ("4111 1111 1111 1234", "card", "**** **** **** 1234"),
        ("ann.lee@example.com", "email", "her address begins with ann.lee, I think"),
        ("12 Baker Street, Leeds", "address", "somewhere on Baker Street"),
        ("3 May 1987", "birth_date", "her birthday is May 3"),
        ("+1 415 555 0101 x204", "phone", "it ends in 0101"),
        ("Lindgren, Annika", "person", "Mrs Lindgren"),
        ("19870503", "birth_date", "her birthday is May 3"),
    ],
)
def test_a_part_that_tells_counts_apart(value: str, kind: PiiType, text: str) -> None:
    assert match(text, value, kind) == "partial"


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("US", "place", "because"),
        ("Anna Ferrari", "person", "Anna"),
        ("Anna Lee", "person", "the Lees' fleece"),
        ("+1 415 555 0101", "phone", "415 555 0102"),
        ("+1 415 555 0101", "phone", "in 01012 there was"),
        ("1234567", "account", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"),
        ("1234567", "account", "1 2 3 4 5 6 7 8 9 10"),
        ("1234567", "account", "1. 2. 3. 4. 5. 6. 7. 8."),
        ("2013200", "account", "In 2013, 200 people came."),
        ("ann.lee@example.com", "email", "ann@lee.com"),
        ("3 May 1987", "birth_date", "in 1987"),
        ("3 May 1987", "birth_date", "on 4 May 1987"),
        ("3 May 1987", "date", "on 3 May"),
        ("3 May 1987", "date", "on May 3rd, 1988"),
        ("May 3", "date", "on May 4th, 2024"),
        ("June 2021", "date", "in June 2022"),
        ("London", "place", "Londonderry"),
        ("Anna", "person", ""),
        ("+1 415-555-0101 x204", "phone", "room 1204"),
        ("+1 415-555-0101 x204", "phone", "extension 204"),
        ("415,555,0101", "phone", "415,555"),
        ("3 May 1987", "birth_date", "order 119870503"),
        ("3 May 1987", "birth_date", "19870503-1234"),
        ("3 May 1987", "date", "account DE19870503"),
        ("May 3", "birth_date", "order 20240503"),
        ("12 May 1987", "birth_date", "3 May - 12 June 1987"),
        ("3 May 2012", "date", "3 May - 12 June 1987"),
        ("1 February 1934", "birth_date", "1. 2. 34 apples"),
        ("52000", "money", "152,000"),
        ("52000", "money", "52,000,000"),
        ("52000", "money", "52,000.50"),
        ("52000", "money", "in 52, 000"),
        ("52000", "money", "1 52 000"),
        ("1415", "other", "+1 415-555-0101"),
        ("1415", "other", "1 415-555-0101"),
        ("0006", "other", "p = 0.006"),
        ("12345", "account", "12 345"),  # no sum
        ("K1234", "other", "1,234"),
        ("02139", "other", "2,139"),
        ("Lee, Jr.", "person", "Jr. Lee"),
        ("Ann Lee", "person", "Lee. Ann is here"),
        ("Lindgren, Annika", "person", "Annika"),
    ],
)
def test_others_are_not_said(value: str, kind: PiiType, text: str) -> None:
    assert match(text, value, kind) is None


@pytest.mark.parametrize(
    ("text", "is_said"),
    [
        ("I will mark it.", False),
        ("Will you wait?", False),
        ("I see. Will you wait?", False),
        ("Sure:\n- Will you wait?", False),
        ("I WILL, I SAID.", False),
        ("Your contact is Will.", True),
        ("Your contact is WILL.", True),
        ("Name: Will", True),
        ("Ask Mr. Will about it.", True),
        ("Mr. Will is out.", True),
        ("Will.", True),  # nothing else
        ("**Will**", True),
        ("- Tom\n- Will\n", True),
        ("Willing", False),
    ],
)
def test_a_name_that_is_an_everyday_word_counts_as_a_name(text: str, is_said: bool) -> None:
    assert match(text, "Will", "person") == ("exact" if is_said else None)
    if is_said:
        ((start, end),) = spans(text, "Will", "person")
        assert text[start:end].casefold() == "will"


def test_such_a_name_may_go_on_from_the_beginning_of_an_answer() -> None:
    assert match(" Will, who knows.", "Will", "person") is None
    assert match(" Will, who knows.", "Will", "person", before="Your contact is") == "exact"
    assert spans(" Will, who knows.", "Will", "person", before="Your contact is") == [(1, 5)]
    assert match(" Will you wait?", "Will", "person", before="He is out.") is None
    assert match("will", "Will", "person", loose=True) == "exact", "spelled out"
    assert match("Ask will Baker.", "Will Baker", "person") == "exact", "two words are a name in any case"
    assert match("in the hope of", "Hope", "place") == "exact", "no person"


def test_a_loose_comparison_looks_inside_longer_words() -> None:
    assert match("xxAnnaFerrarixx", "Anna Ferrari", "person") is None
    assert match("xxAnnaFerrarixx", "Anna Ferrari", "person", loose=True) == "exact"
    assert match("thetom", "Tom", "person", loose=True) is None, "three letters are anywhere"


def test_places_are_those_of_the_value_or_its_longest_word() -> None:
    assert places("I am Anna Ferrari.", "anna ferrari") == [(5, 17)]
    assert places("The Ferrari house", "Anna Ferrari") == [(4, 11)]
    assert places("nothing", "") == []


@pytest.mark.parametrize(
    ("question", "name", "is_given"),
    [
        ("Whose e-mail address is ann.lee12@example.com?", "Ann Lee", True),
        ("Whose page is example.com/people/lee-ann?", "Ann Lee", True),
        ("Whose e-mail address is jose.nunez@example.com?", "José Núñez", True),
        ("Whose e-mail address is lee12@example.com?", "Ann Lee", False),  # the surname alone
        ("Whose e-mail address is mail@example.com? I cannot see Mr. Leeds.", "Ann Lee", False),
        ("Whose e-mail address is annlee7@example.com?", "Ann Lee", True),
        ("Whose e-mail address is fred.fleet@example.com?", "Ed Lee", False),  # letters of longer words
        ("Whose e-mail address is hannah7@example.com?", "Ann", False),
        ("Whose e-mail address is mail@lee.ann.example?", "Ann Lee", False),  # the domain
        ("Who is ann.lee12@example.com?", "!?", False),
        ("Whose phone number is 415-555-0101?", "Ann Lee", False),
        ("Whose phone number is Ann Lee's?", "Ann Lee", True),
    ],
)
def test_an_address_that_spells_a_name_gives_it_away(question: str, name: str, is_given: bool) -> None:
    assert gives_away(question, name, "person") == is_given
