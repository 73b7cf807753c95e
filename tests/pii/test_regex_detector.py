"""Patterns and checksums, against numbers that other libraries make, and against texts that only look like them."""

import re
import time
from itertools import pairwise

import pytest
from faker import Faker

from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.pii.registry import load_detector

DETECTOR = load_detector("regex")
LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pt_BR")


def found(text: str) -> list[Span]:
    spans = DETECTOR.find([text])[0]
    assert all(text[span.start : span.end] == span.text for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    return spans


def pieces(text: str) -> list[tuple[str, str]]:
    return [(span.type, span.text) for span in found(text)]


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("email", "tom.baker+x@mail.example.co.uk"), ("email", "tom [at] mail [dot] example"),
        ("url", "https://www.example.com/a?b=c#d"), ("url", "www.example.org"), ("url", "tombaker.me/about"),
        ("ip", "203.0.113.7"), ("ip", "2001:db8::8a2e:370:7334"), ("ip", "00:1b:44:11:3a:b7"),
        ("phone", "+49 30 901820"), ("phone", "(415) 555-0132"), ("phone", "020 7946 0018"),
        ("phone", "415-555-0132 ext. 12"),
        ("card", "4111 1111 1111 1111"), ("card", "3782-822463-10005"),
        ("account", "GB82 WEST 1234 5698 7654 32"), ("account", "DE89370400440532013000"),
        ("national_id", "536-22-8841"), ("national_id", "RSSMRA85T10A562S"), ("national_id", "12345678Z"),
        ("national_id", "529.982.247-25"), ("national_id", "1 85 05 78 006 084 91"),
        ("secret", "AKIAIOSFODNN7EXAMPLE"),
        ("address", "12 Baker Street, London NW1 6XE"), ("address", "Musterstraße 12, 12345 Berlin"),
        ("address", "12 rue de la Paix, 75002 Paris"), ("address", "Calle Mayor 12, 28013 Madrid"),
        ("address", "P.O. Box 1234"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "So: {}.", "It was {}, he said; twice", "🙂 ({})\nend"])
def test_what_has_a_form_is_found_whole_wherever_it_stands(kind: str, piece: str, around: str) -> None:
    assert (kind, piece) in pieces(around.format(piece))


@pytest.mark.parametrize(
    ("text", "kind", "piece"),
    [
        ("She was born on May 3, 1981 in Rome.", "birth_date", "May 3, 1981"),
        ("Geburtsdatum: 03.05.1981", "birth_date", "03.05.1981"),
        ("nacido el 3 de mayo de 1981", "birth_date", "3 de mayo de 1981"),
        ("Passport number: X1234567", "licence", "X1234567"),
        ("my driver's license is D123-4567-8901", "licence", "D123-4567-8901"),
        ("medical record number MRN-483920", "medical", "MRN-483920"),
        ("My password is hunter2!x", "secret", "hunter2!x"),
        ("username: tom_b81", "secret", "tom_b81"),
        ("the PIN is 4711", "secret", "4711"),
        ("social security number 536228841", "national_id", "536228841"),
        ("account number 12345678", "account", "12345678"),
        ("CVV 123", "card", "123"),
    ],
)
def test_what_the_words_before_it_tell(text: str, kind: str, piece: str) -> None:
    assert (kind, piece) in pieces(text)


@pytest.mark.parametrize(
    "text",
    [
        "You will get a call from 415-555-0132 tomorrow.", "The patient Ann Lee (415-555-0132) fainted.",
        "Please confirm the order with Ann at 415-555-0132.", "Reservation for Ann Lee, 415-555-0132, two nights.",
        "| Ann Lee | customer | 415-555-0132 |", "Monday from 9 to 5 on 415-555-0132", "Room service: 415-555-0132",
        "My license was stolen, 415-555-0132 is where I am.", "Order #4711. Ann Lee, 415-555-0132",
    ],
)  # fmt: skip
def test_a_phone_stays_one_beside_words_that_name_other_numbers(text: str) -> None:
    assert ("phone", "415-555-0132") in pieces(text)


@pytest.mark.parametrize(
    "text",
    [
        "Version 10.4.2.1 came out on May 3, 1981.", "The order number is 415-555-0132.", "It costs 1,299.00 dollars.",
        "ISBN 978-3-16-148410-0 is a book.", "Invoice 2024-0012345 of 12.03.2024, batch 20240312.",
        "We meet at 10:30 on 2024-03-12.", "See section 3.2.1 and figure 12.",
        "The train runs at 4 and at 10 past 12.", "Use file.txt and main.py, e.g. twice.", "1, 2, 3, 4, 5, 6, 7, 8",
        "A 3.5 mm jack, 12 V, 230 V.", "Between 1914 and 1918 it was closed.", "10 Most Common Errors",
        "git commit 4f2a9c1d7b", "ratio 16:9, 4:3:2", "order 4111 1111 1111 1112 is late",
    ],
)  # fmt: skip
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert pieces(text) == []


@pytest.mark.parametrize("locale", LOCALES)
def test_cards_and_accounts_count_with_right_check_digits_only(locale: str) -> None:
    faker = Faker(locale)
    faker.seed_instance(1)
    for kind, made in (("card", lambda: faker.credit_card_number("visa16")), ("account", faker.iban)):
        for number in {made() for _ in range(30)}:
            assert pieces(f"It is {number}.") == [(kind, number)]
            for place in (2, len(number) // 2, len(number) - 1):  # one digit is another
                other = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), number[place:], count=1)
                if (wrong := number[:place] + other) != number:
                    assert (kind, wrong) not in pieces(f"It is {wrong}.")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("GB82 WEST 1234 5698 7654 32 and DE89 3704 0044 0532 0130 00",
         ["GB82 WEST 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00"]),
        ("ticket AB12 GB82WEST12345698765432", ["GB82WEST12345698765432"]),
        ("4111 1111 1111 1111 5500 0000 0000 0004", ["4111 1111 1111 1111", "5500 0000 0000 0004"]),
        ("Ann,4111111111111111,5500000000000004", ["4111111111111111", "5500000000000004"]),
        ("card 4111 1111 1111 1111 12/27 123", ["4111 1111 1111 1111"]),
        ("Ann,415-555-0132,ann", ["415-555-0132"]),
        ("020 7946 0958\n020 7946 0959", ["020 7946 0958", "020 7946 0959"]),
        ("pay DE89 3704 0044\n0532  0130 00", ["DE89 3704 0044\n0532  0130 00"]),
    ],
)  # fmt: skip
def test_neighbours_in_lists_and_tables_are_found_each(text: str, wanted: list[str]) -> None:
    assert [piece for kind, piece in pieces(text) if kind in ("account", "card", "phone")] == wanted


@pytest.mark.parametrize("text", ["DE8937040044053201ſ000", "ıT60X0542811101000000123456"])
def test_letters_that_are_others_in_capitals_are_no_digits(text: str) -> None:
    assert ("account", text) not in pieces(text)


def test_example_numbers_of_all_countries_are_phones() -> None:
    phonenumbers = pytest.importorskip("phonenumbers")
    missed = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        if example is not None:
            number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
            missed += [] if ("phone", number) in pieces(f"You can reach me at {number} today.") else [number]
    assert missed == []


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("Call \u202a+49\u00a030\u00a0901820\u202c now", "+49\u00a030\u00a0901820"),
        ("Card ４１１１ １１１１ １１１１ １１１１.", "４１１１ １１１１ １１１１ １１１１"),
        ("Write to to\u00adm@mail.exam\u200bple.com!", "to\u00adm@mail.exam\u200bple.com"),
        ("SSN 536\u201122\u20118841", "536\u201122\u20118841"),
        ("هاتف ٠٢٠ ٧٩٤٦ ٠٠١٨ شكرا", "٠٢٠ ٧٩٤٦ ٠٠١٨"),
    ],
)
def test_other_forms_of_characters_hide_nothing(text: str, piece: str) -> None:
    assert piece in [span.text for span in found(text)]


@pytest.mark.parametrize(
    "part",
    [
        "A-",
        "Aa-",
        "Aa ",
        "Aa, ",
        "Aa & ",
        "x",
        "a-",
        "a.",
        "A.B.",
        "1-",
        "1 ",
        "!",
        "a@",
        "a:",
        "12 Aa St, ",
        "(1",
        "www.",
    ],
)
def test_no_text_holds_it_up(part: str) -> None:
    text = part * (6000 // len(part))
    started = time.process_time()
    DETECTOR.find([text])
    assert time.process_time() - started < 2.0, "some 0.1 s; patterns that try all ways to cut a text take hours"


def test_it_has_no_model() -> None:
    with pytest.raises(NescioError, match=r"detector regex:mail: has no model; use regex"):
        load_detector("regex:mail")
