"""What a text calls a number: the last naming word before it says a phone, a person's number, or a thing's."""

import re
from typing import Literal

Called = Literal["phone", "person", "thing"]

_WINDOW = 48  # characters before the number
_WORDS: dict[Called, str] = {
    "phone": r"""
        (?:tele|cell)?phones? tel telefon\w* tel[eé]fono t[eé]l[eé]phone telemóvel telefoon\w* mobiel\w* mobil\w*
        m[oó]vil cell cellulare celular handy\w* portable num[eé]ro nummer n[uú]mero number landline fax whatsapp
        signal sms texts? texted call calls called calling dial ring reach reached reachable contact hotline voicemail
        line desk bel bellen appel\w* joindre chiam\w* llam\w* lig\w+ ruf\w* erreich\w* anruf\w* rückruf\w* contatt\w*
        contact\w*
    """,
    "person": r"""
        accounts? acct polic(?:y|ies) passport licen[cs]e cards? iban ssn security ids? identity customer student
        employee member record mrn nhs tax vat konto\w* patient\w*
    """,
    "thing": r"""
        orders? invoices? tickets? cases? ref references? tracking serial models? parts? products? items? article
        artikel sku isbn issn doi versions? confirmation booking reservation flight room pages? builds? commit patent
        claim routing vin total price codes? batch population issue errors? hash checksum timestamp barcode upc ean
        imei lot bug pin zip between from years? seed port registration release firmware driver kernel part row table
        figure section chapter bestell\w* rechnung\w* sendung\w* kundennummer commande facture suivi pedido factura
        seguimiento ordine fattura bestelling factuur onderdeel encomenda fatura versión versione versão
    """,
}
_WORD = re.compile(
    "|".join(rf"(?P<{kind}>\b(?:{'|'.join(words.split())})\b)" for kind, words in _WORDS.items()), re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<=\w{3})\.\s|[!?]\s")  # not after "no."
_BARE = ("number", "nummer", "numero", "número", "numéro")


def called(text: str, start: int) -> Called | None:
    """Tell what the last naming word before a number, in its sentence, says that it is.

    Args:
        text: The text.
        start: Where the number begins.
    """
    found: Called | None = None
    for match in _WORD.finditer(_SENTENCE_END.split(text[max(0, start - _WINDOW) : start])[-1]):
        # "order number" is no phone number: what stands before the bare word "number" decides first.
        if not (found and match[0].lower() in _BARE):
            found = next(kind for kind in _WORDS if match[kind])
    return found
