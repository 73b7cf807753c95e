"""What a text calls a number: a number to dial, a person's, or a thing's."""

import re
from typing import Literal

Called = Literal["phone", "person", "thing"]

_WINDOW = 48  # characters before the number
_PHONE = r"""
    (?:tele|cell)?phones? tel telefon\w* tel[eé]fono t[eé]l[eé]phone telemóvel telefoon\w* mobiel\w* mobil\w*
    m[oó]vil cell cellulare celular handy\w* portable num[eé]ro nummer n[uú]mero number landline fax whatsapp
    signal sms texts? texted call calls called calling dial ring reach reached reachable contact hotline voicemail
    line desk bel bellen appel\w* joindre chiam\w* ll[aá]m\w* lig\w+ ruf\w* erreich\w* anruf\w* rückruf\w* contatt\w*
    contact\w*
"""
_PERSONS = r"""
    account acct policy passport licen[cs]e card iban ssn social\ssecurity (?<!caller\s)id mrn nhs tax vat konto\w*
    pati[eë]nt\w*nummer
"""
_THINGS = r"""
    order invoice ticket (?<!in\s)case ref reference tracking serial model part product item article
    artikel sku isbn issn doi version confirmation booking reservation flight room page build commit patent
    claim routing vin total price code batch population issue error hash checksum timestamp barcode upc ean
    imei lot bug pin zip seed port registration release firmware driver kernel row table
    figure section chapter bestell\w* rechnung\w* sendung\w* kundennummer commande facture suivi pedido factura
    seguimiento ordine fattura bestelling factuur onderdeel encomenda fatura versión versione versão
"""
_HOLDERS = "customer student employee member identity patient security record"
"""Whose number it is only with the word: "customer no. 4711", not "our customer, 415-555-0132"."""
_NUMBER = r"(?:numbers?|numero|número|numéro|nummer|no|nr|num|id|\#)"
_IS = r"(?:is|was|ist|lautet|est|es|è|é)"
_GAP = r"\.?(?:[^\S\n]|-)?"


def _any(words: str) -> str:
    return "|".join(words.split())


_DIALS = re.compile(rf"\b(?:{_any(_PHONE)})\b", re.IGNORECASE)
_NAME = re.compile(
    rf"""\b(?:(?P<thing>{_any(_THINGS)})|(?P<person>{_any(_PERSONS)}|(?:{_any(_HOLDERS)}){_GAP}{_NUMBER}))(?!\w)
    (?:{_GAP}\b(?:{_NUMBER}(?:(?:[^\S\n][^\W\d_]+){{1,4}}[^\S\n]{_IS})?|{_IS}|code|with|the|mit|der)\b){{0,4}}
    {_GAP}[^\S\n]?(?:[:=\#('"’*`-]\s*){{0,3}}\Z""",
    re.IGNORECASE | re.VERBOSE,
)
"""A word that stands right before the number, but for "number", "of your parcel is" and marks."""
_SENTENCE_END = re.compile(r"(?<=\w{3})\.\s|[!?]\s")  # not after "no."


def called(text: str, start: int) -> Called | None:
    """Tell what a text calls a number.

    A word for something else, such as "order", must stand right before the number: "the order number is 4711", not "for
    the order call 4711". A word for dialling may stand anywhere before it in its sentence.

    Args:
        text: The text.
        start: Where the number begins.
    """
    before = _SENTENCE_END.split(text[max(0, start - _WINDOW) : start])[-1]
    if name := _NAME.search(before):
        return "thing" if name["thing"] else "person"
    return "phone" if _DIALS.search(before) else None
