"""Finds of models that are more likely something else: labels of forms, foreign words, numbers of orders."""

import re
from collections.abc import Sequence

from nescio.pii.base import Detector, Span
from nescio.pii.called import called
from nescio.pii.english import is_english

_NAMES = ("person", "organisation", "place")
_NUMBERS = ("phone", "national_id", "licence", "medical", "account", "secret", "address", "ip")
_FRAGMENTS = ("BUILDING_NUMBER", "SECONDARY_ADDRESS")  # parts of an address that say nothing without a street
_FIELDS = """
    api bank bearer bic bsn cpf cvc cvv dl dni dob driver faq gpa html iban id ip isbn json mac mrn n name nhs nie nif
    nino passport password pdf phone pin sku sql ssn swift tel tin ups url usb vat vin wifi xml
"""
_FIELD_NAMES = frozenset(_FIELDS.split())  # what forms and logs call a field, and recognisers take for a name
_LABEL = re.compile(r"\s*[:=]")
_NUMBER = re.compile(r"\S*\d")  # in "port 52110" as well
_WORD = re.compile(r"[^\W\d_]{2}")
# A UUID, a checksum (MD5, SHA-1, SHA-256), a number with many decimals: to models, licences and identity numbers.
_CODE = re.compile(
    r"[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}|[\da-f]{32}(?:[\da-f]{8}|[\da-f]{32})?|\d\.\d{6,}", re.IGNORECASE
)
_GROUPED = re.compile(r"\W*[+0]|\W*\d+[\s().–/-]+(?:\d+[\s().–/-]+)*\d{3}")  # a prefix, or groups of digits


class Careful:
    """A detector without its doubtful finds.

    Args:
        detector: Asks a model.
        english: Whether the model reads English only: the names that it finds in other languages are left out.
    """

    def __init__(self, detector: Detector, english: bool) -> None:
        self.name = detector.name
        self._detector = detector
        self._english = english

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """Return the spans of each text, in order of their start."""
        return [
            [span for span in spans if not self._is_doubtful(text, span)]
            for text, spans in zip(texts, self._detector.find(texts), strict=True)
        ]

    def _is_doubtful(self, text: str, span: Span) -> bool:
        if span.type in _NUMBERS and (number := _NUMBER.search(span.text)):
            name = called(text, span.start + number.start())
            if span.type == "phone":
                return name in ("person", "thing") or (name is None and not _GROUPED.match(span.text))
            # "My order goes to room 14 Old Mill Farm": what has words behind its number is a whole address.
            is_thing = name == "thing" and not (span.type == "address" and _WORD.search(span.text, number.end()))
            is_code = span.type in ("national_id", "licence") and bool(_CODE.fullmatch(span.text))
            return is_thing or is_code or span.text.startswith("0x") or span.label in _FRAGMENTS
        if span.type not in _NAMES:
            return span.label in _FRAGMENTS
        # A name in small letters is one where all the text is in them.
        lower = span.text.islower() and (self._english or text.lstrip()[:1].isupper())
        field = span.text.lower() in _FIELD_NAMES or (self._english and bool(_LABEL.match(text, span.end)))
        return lower or field or (self._english and not is_english(text))
