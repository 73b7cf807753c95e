"""Checks of numbers that carry their own: cards, bank accounts, identity numbers, network addresses."""

import ipaddress
import re

# Country and length of every IBAN (SWIFT's registry).
_LENGTHS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29
    ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28
    LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25
    QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
_IBANS = {code[:2]: int(code[2:]) for code in _LENGTHS.split()}


def digits(text: str) -> str:
    """Return the digits of a text."""
    return re.sub(r"\D", "", text)


def luhn(text: str) -> bool:
    """Whether the digits of a text fulfil Luhn's check (ISO/IEC 7812)."""
    total = 0
    for place, digit in enumerate(reversed(digits(text))):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def card(text: str) -> bool:
    """Whether a text is the number of a payment card: an issuer's first digits, a length, Luhn's check."""
    number = digits(text)
    return 12 <= len(number) <= 19 and number[0] in "23456" and len(set(number)) > 1 and luhn(number)


def iban(text: str) -> int:
    """Return how many characters of a text are an IBAN (ISO 13616) that it begins with; 0: none."""
    places = [place for place, character in enumerate(text) if character.isalnum()]
    length = _IBANS.get(text[:2].upper(), 0)
    if not 0 < length <= len(places):
        return 0
    solid = "".join(text[place] for place in places[:length])
    if not solid.isascii():  # in any case, "ſ" is an S to a pattern, and no digit of base 36
        return 0
    number = "".join(str(int(character, 36)) for character in solid[4:] + solid[:4])
    return places[length - 1] + 1 if int(number) % 97 == 1 else 0


def ip_address(text: str) -> bool:
    """Whether a text is an IP address, version 4 or 6."""
    try:
        ipaddress.ip_address(text.partition("%")[0].partition("/")[0])
    except ValueError:
        return False
    return ":" not in text or text.count(":") > 2 or any(map(str.isdigit, text))


def ssn(text: str) -> bool:
    """Whether a text may be a social security number of the United States, or a taxpayer's (9xx)."""
    number = digits(text)
    return number[:3] not in ("000", "666") and number[3:5] != "00" and number[5:] != "0000" and len(set(number)) > 1


def dni(text: str) -> bool:
    """Whether the letter of a Spanish DNI or NIE fits its number."""
    solid = re.sub(r"\W", "", text).upper()
    number = solid[:-1].translate(str.maketrans("XYZ", "012"))
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == solid[-1]


def cpf(text: str) -> bool:
    """Whether the last two digits of a Brazilian CPF fit the others."""
    number = [int(digit) for digit in digits(text)]
    for size in (9, 10):
        total = sum(digit * (size + 1 - place) for place, digit in enumerate(number[:size]))
        if total * 10 % 11 % 10 != number[size]:
            return False
    return len(set(number)) > 1


def nir(text: str) -> bool:
    """Whether the key of a French social security number (NIR) fits it."""
    solid = re.sub(r"\W", "", text).upper().replace("2A", "19").replace("2B", "18")
    return solid.isdigit() and 97 - int(solid[:13]) % 97 == int(solid[13:])
