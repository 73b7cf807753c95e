"""Stand-ins are the same for the same piece, nobody's, and cannot be guessed without the key."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nescio.core.errors import NescioError
from nescio.pii.base import Span
from nescio.pii.stand_ins import StandIns, read_key
from nescio.pii.taxonomy import TYPES, PiiType

ONE = StandIns(b"k" * 32)


def test_a_person_stays_one_person() -> None:
    first, surname = ONE.of("person", "Ann Lee").split()
    assert ONE.of("person", "ANN  LEE").split() == [first.upper(), surname.upper()]
    assert ONE.of("person", "Ann") == first
    assert ONE.of("person", "Dr. Lee") == f"Dr. {surname}"
    assert ONE.of("person", "ann lee") == f"{first} {surname}".lower()
    assert ONE.of("email", "ann.lee@mail.org").startswith(f"{first}.{surname}@".lower())
    assert ONE.of("person", "Ann Lee's") == f"{first} {surname}'s"
    assert ONE.of("person", "Ann van Lee") == f"{first} van {surname}"
    assert ONE.of("person", "Jose\u0301") == ONE.of("person", "José")
    assert ONE.of("person", "Bob Lee").split()[0] != first


@pytest.mark.parametrize("kind", TYPES)
def test_another_key_gives_another_stand_in(kind: PiiType) -> None:
    piece = {"age": "34", "ip": "10.1.2.3", "email": "a@b.org", "money": "$ 3,412.77"}.get(
        kind, "X 4417 1234 5678 9113"
    )
    assert ONE.of(kind, piece) == StandIns(b"k" * 32).of(kind, piece) != piece
    others = {StandIns(bytes([n]) * 32).of(kind, piece) for n in range(9)}
    assert len(others) > 1 or others == {"[OTHER]"}


def test_the_form_of_numbers_stays() -> None:
    phone = ONE.of("phone", "+1 (212) 867-5309")
    assert re.fullmatch(r"\+\d \(\d{3}\) 555-01\d\d", phone)
    assert re.sub(r"\D", "", ONE.of("phone", "1.212.867.5309")) == re.sub(r"\D", "", phone)
    assert re.fullmatch(r"DE00 (\d{4} ){4}\d\d", ONE.of("account", "DE89 3704 0044 0532 0130 00"))
    assert re.fullmatch(r"000-\d\d-\d{4}", ONE.of("national_id", "219-09-9999"))
    assert re.fullmatch(r"[A-Z]\d{8}", ONE.of("licence", "C01X00T4"[:1] + "12345678"))
    assert re.fullmatch(r"[a-z]+\.example/[0-9a-f]{6}", ONE.of("url", "ann-lee.org/me"))
    assert re.fullmatch(r"\d\d years", ONE.of("age", "9 years"))
    assert ip_address(ONE.of("ip", "2001:470::7")) in ip_network("2001:db8::/32")


@given(st.text("0123456789", min_size=12, max_size=19))
def test_no_card_is_a_card(number: str) -> None:
    digits = [int(digit) for digit in ONE.of("card", number)]
    assert len(digits) == len(number)
    odd, even = digits[-1::-2], digits[-2::-2]
    assert (sum(odd) + sum(sum(divmod(2 * digit, 10)) for digit in even)) % 10


@given(st.sampled_from(TYPES), st.text(min_size=1, max_size=30).filter(str.strip))
def test_anything_has_a_stand_in(kind: PiiType, piece: str) -> None:
    assert isinstance(ONE.of(kind, piece), str)


def test_names_do_not_collide() -> None:
    assert len({ONE.of("person", f"name{chr(97 + a)}{chr(97 + b)}") for a in range(20) for b in range(20)}) > 396


def test_texts_keep_what_is_around() -> None:
    spans = [Span(4, 11, "PERSON", "Ann Lee"), Span(4, 7, "GIVEN_NAME", "Ann"), Span(15, 20, "CITY", "Leeds")]
    assert re.fullmatch(r"Ask [A-Z]\w+ [A-Z]\w+ of [A-Z]\w+\.", ONE.put("Ask Ann Lee of Leeds.", spans))


def test_keys_are_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = read_key(tmp_path / "keys/a")
    assert (tmp_path / "keys/a").stat().st_mode & 0o777 == 0o600 and len(key) == 64
    assert read_key(tmp_path / "keys/a") == key
    (tmp_path / "keys/a").chmod(0o640)
    with pytest.raises(NescioError, match=r"readable by others .*; run chmod 600"):
        read_key(tmp_path / "keys/a")
    monkeypatch.setenv("NESCIO_SCRUB_KEY", "from the environment")
    assert read_key(None) == b"from the environment"
    monkeypatch.delenv("NESCIO_SCRUB_KEY")
    assert read_key(None) != read_key(None)
    with pytest.raises(NescioError, match="the key has 4 bytes; use at least 16"):
        StandIns(b"1234")
