"""Stand-ins for personal data: made-up names, numbers and addresses, the same for the same piece, by a secret key.

Nobody can try all telephone numbers until one gives the stand-in, as they could with a plain hash: HMAC-SHA256 (RFC
2104) under a key decides. Numbers and domains are of kinds that nobody has: 555-01xx, `.example` (RFC 2606), addresses
for documentation (RFC 5737, RFC 3849), wrong check digits.
"""

import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from random import Random
from unicodedata import normalize

from nescio.core.errors import NescioError
from nescio.core.file_modes import check_private
from nescio.core.text import folded
from nescio.pii.base import Span, merge
from nescio.pii.taxonomy import PiiType

KEY_VARIABLE = "NESCIO_SCRUB_KEY"
_SHORTEST_KEY = 16  # bytes

WORD = re.compile(r"(?<!\w['’])[^\W\d_]+(?:['’](?!s\b)[^\W\d_]+)*")
"""A word of a name, without the 's of "Anna's". Each has a stand-in of its own."""

_TITLES = frozenset(
    ["mr", "mrs", "ms", "miss", "dr", "prof", "herr", "frau", "mme", "mlle", "sr", "sra", "srta", "dott", "dhr", "mevr"]
)
_PARTICLES = frozenset(
    ["van", "von", "der", "den", "de", "del", "della", "di", "da", "du", "dos", "das", "la", "le", "ter", "ten", "bin"]
)
_COMPANY = re.compile(
    r"\b(?:ltd|inc|llc|plc|gmbh|ag|kg|se|sa|sas|sarl|s\.?p\.?a|s\.?r\.?l|s\.?l|b\.?v|n\.?v)\b\.?$", re.IGNORECASE
)
_DOCUMENTATION = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737


class StandIns:
    """Stand-ins under one key.

    Args:
        key: Secret bytes, at least 16. Who has it can find out by trial whose stand-in one is.

    Raises:
        NescioError: The key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _SHORTEST_KEY:
            raise NescioError(f"the key has {len(key)} bytes; use at least {_SHORTEST_KEY} random ones")
        self._key = key

    def put(self, text: str, spans: Iterable[Span]) -> str:
        """Replace each span of a text by its stand-in; spans that overlap by one."""
        parts, position = list[str](), 0
        for span in merge(spans, text):
            parts += [text[position : span.start], self.of(span.type, span.text)]
            position = span.end
        return "".join([*parts, text[position:]])

    def of(self, kind: PiiType, piece: str) -> str:
        """Return the stand-in of a piece: the same for the same piece in any case, Unicode form and spacing.

        People are replaced word by word, so that "Ann Lee", "ANN" and ann.lee@… stay one person.
        """
        make = _MAKERS.get(kind)
        return make(self, normalize("NFC", piece)) if make else f"[{kind.upper()}]"

    def _random(self, kind: str, piece: str) -> Random:
        return Random(hmac.digest(self._key, f"{kind}\0{folded(piece)}".encode(errors="replace"), "sha256"))

    def _name(self, kind: str, piece: str) -> str:
        """A made-up name such as "Velor"."""
        random = self._random(kind, piece)
        syllables = "".join(random.choice("bdfghjklmnprstvwyz") + random.choice("aeiouy") for _ in range(2))
        return (syllables + random.choice("dfklmnprstvxz")).capitalize()

    def _person(self, piece: str) -> str:
        several = len(WORD.findall(piece)) > 1
        kept = _PARTICLES if several and not piece.islower() else []

        def other(match: re.Match[str]) -> str:
            word = match[0]
            if word in kept or (several and word.lower() in _TITLES):
                return word
            name = self._name("person", word)
            name = name[:1] if len(word) == 1 else name
            return name.upper() if word.isupper() else name.lower() if word.islower() else name

        return WORD.sub(other, piece)

    def _organisation(self, piece: str) -> str:
        form = _COMPANY.search(piece)
        return f"{self._name('organisation', _COMPANY.sub('', piece))} {form[0] if form else 'Company'}"

    def _place(self, piece: str) -> str:
        return self._name("place", piece) + self._random("place", piece).choice(["ton", "ville", "burg", "ford"])

    def _address(self, piece: str) -> str:
        random = self._random("address", piece)
        return f"{random.randint(1, 199)} {self._name('street', piece)} Street, {self._place(piece)}"

    def _phone(self, piece: str) -> str:
        def digits(count: int, random: Random) -> str:
            if count < 9:  # too few for an area and a number
                return "555" + "".join(random.choices("0123456789", k=count - 3)) if count > 3 else "555"[:count]
            area = str(random.randint(2, 9)) + "".join(random.choices("0123456789", k=count - 8))
            return f"{area}55501{random.randint(0, 99):02d}"

        return self._shaped("phone", piece, digits)

    def _email(self, piece: str) -> str:
        local, _, domain = piece.partition("@")
        people = WORD.sub(lambda word: self._name("person", word[0]).lower(), local)
        return f"{self._shaped('email', people)}@{self._name('domain', domain).lower()}.example"

    def _url(self, piece: str) -> str:
        scheme = re.match(r"\w+://", piece)
        page = self._random("page", piece).randrange(16**6)
        return f"{scheme[0] if scheme else ''}{self._name('url', piece).lower()}.example/{page:06x}"

    def _ip(self, piece: str) -> str:
        random = self._random("ip", piece)
        if "." in piece:
            return f"{random.choice(_DOCUMENTATION)}.{random.randint(1, 254)}"
        if re.fullmatch(r"(?:\w\w[:-]){5}\w\w", piece.strip()):  # a MAC address; 02: locally administered
            return ":".join(["02", *(f"{random.randrange(256):02x}" for _ in range(5))])
        return "2001:db8:" + ":".join(f"{random.randrange(16**4):x}" for _ in range(6))

    def _date(self, piece: str) -> str:
        return (date(1930, 1, 1) + timedelta(days=self._random("date", piece).randrange(29_000))).isoformat()

    def _age(self, piece: str) -> str:
        years = str(self._random("age", piece).randint(20, 79))
        return re.sub(r"\d+", years, piece, count=1) if re.search(r"\d", piece) else years

    def _identifier(self, piece: str) -> str:
        """Begins with zeros where it has the digits: no office gives such numbers out."""

        def digits(count: int, random: Random) -> str:
            zeros = "000" if count >= 7 else ""
            return zeros + "".join(random.choices("0123456789", k=count - len(zeros)))

        return self._shaped("identifier", piece, digits, letters=True)

    def _card(self, piece: str) -> str:
        return self._shaped(
            "card", piece, lambda count, random: _spoiled("".join(random.choices("0123456789", k=count)))
        )

    def _account(self, piece: str) -> str:
        """An IBAN's check digits become 00, which none has."""
        if country := re.match(r"\s*[A-Za-z]{2}(?=\d\d)", piece):
            return f"{country[0]}00{self._shaped('account', piece[country.end() + 2 :], letters=True)}"
        return self._identifier(piece)

    def _secret(self, piece: str) -> str:
        return f"{self._name('secret', piece).lower()}{self._random('secret', piece).randrange(10_000):04d}"

    def _money(self, piece: str) -> str:
        return self._shaped("money", piece)

    def _shaped(
        self, kind: str, piece: str, digits: Callable[[int, Random], str] | None = None, *, letters: bool = False
    ) -> str:
        """Other digits, and letters if asked for, in the same places; how the piece is spaced changes nothing."""
        plain = "".join(character for character in piece if character.isalnum())
        random, count = self._random(kind, plain), sum(map(str.isdecimal, piece))
        drawn = iter(digits(count, random) if digits else "".join(random.choices("123456789", k=count)))

        def other(character: str) -> str:
            if character.isdecimal():
                return next(drawn)
            if letters and character.isalpha():
                letter = random.choice("ABCDEFGHJKLMNPQRSTUVWXYZ")
                return letter if character.isupper() else letter.lower()
            return character

        return "".join(map(other, piece))


_MAKERS: dict[PiiType, Callable[[StandIns, str], str]] = {
    "person": StandIns._person, "organisation": StandIns._organisation, "place": StandIns._place,
    "address": StandIns._address, "phone": StandIns._phone, "email": StandIns._email, "url": StandIns._url,
    "ip": StandIns._ip, "birth_date": StandIns._date, "date": StandIns._date, "age": StandIns._age,
    "national_id": StandIns._identifier, "licence": StandIns._identifier, "medical": StandIns._identifier,
    "card": StandIns._card, "account": StandIns._account, "secret": StandIns._secret, "money": StandIns._money,
}  # fmt: skip


def _spoiled(card: str) -> str:
    """Change the last digit of a number that passes Luhn's check: no card has one that does not."""
    doubled = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(card))]
    passes = sum(value // 10 + value % 10 for value in doubled) % 10 == 0
    return card[:-1] + str((int(card[-1]) + 1) % 10) if passes and card else card


def read_key(path: Path | None) -> bytes:
    """Return the key: the file's, else the environment's, else one for this time only.

    Args:
        path: A file that only its owner may read; one that is missing is made, with a random key.

    Raises:
        NescioError: Others can read the file, or the key is empty.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").encode() or secrets.token_bytes(32)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    check_private(path)
    return path.read_bytes().strip()
