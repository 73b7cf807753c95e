"""Patterns of personal data that has a form: numbers by checksum, by the words before them, and by their grouping."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nescio.pii import checksums


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text of one form.

    Attributes:
        label: What it is; the taxonomy has a type for it.
        form: What it looks like.
        check: Whether a piece is one; it may return how many characters of it are.
        after: What has to stand within the 48 characters before it, on the same or the line before.
        unless: What must not stand right before it.
    """

    label: str
    form: re.Pattern[str]
    check: Callable[[str], bool | int] = bool
    after: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where a text has such a piece."""
        at = 0
        while match := self.form.search(text, at):
            start, at = match.span()
            before = text[max(0, start - 48) : start]
            if (self.after and not self.after.search(before)) or (self.unless and self.unless.search(before)):
                continue
            # What a match covers beside a piece, or without being one, may hold the next: two accounts in a row.
            fits = self.check(text[start:at])
            at = at if fits is True else start + (fits or 1)
            if fits:
                yield start, at


def _form(pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(pattern, flags | re.VERBOSE)


def _named(words: str) -> re.Pattern[str]:
    """What names a value before it: "passport number is", "passport no.:", "passport" and the like."""
    return re.compile(
        rf"(?:\b|_)(?:{words})\b['\"’]?s?(?:\W{{0,3}}\b(?:numbers?|numero|número|numéro|nummer|no|nr|num|id|code|card|ending|"
        r"with|was|is|are|as|to|of|the|my|your|his|her|their|reads?|says|shows|listed|registered|on|in|file|provided|given|"
        r"new|held|under|for|it|which|recorded|issued|ist|lautet|est|es|è|é|le|la|il|el|o|de|del|do|du|porte)\b){0,6}"
        r"[\s:=#.,()?\"'`*°º–—-]{0,6}$",
        re.IGNORECASE,
    )


_NO_DIGIT_BEFORE = r"(?<![\w.,/-])(?<!\d\s)"
_NUMBER = r"(?=[A-Z-]{0,6}\d|\w{0,25}\d)[A-Z0-9](?:[A-Z0-9]|[ ./-](?=[A-Z]{0,3}\d)){3,24}(?:-[A-Z])?(?<![\W_])(?![\w@])"
_VERSION = re.compile(
    r"(?:\bv|version|release|firmware|build|section|chapter|clause|figure|v\.)\W{0,2}(?:is\s)?$", re.I
)
_TLD = (
    r"(?:com|org|net|edu|gov|mil|int|info|biz|io|co|me|app|dev|ai|tv|cc|eu|uk|us|de|at|ch|fr|be|nl|es|it|pt|br|pl|se|no"
    r"|fi|dk|ie|ca|au|nz|in|jp|cn|ru|cz|gr|hu|ro|tr|mx|ar|cl|za|online|site|shop|store|tech|cloud|blog|page|link|xyz)"
)

_TITLED = r"[A-ZÀ-ÖØ-Þ][\w'’.&-]{0,40}+"
_COMPANY = (
    r"(?:Ltd|Limited|Inc|Incorporated|LLC|LLP|L\.L\.C|PLC|plc|Corp|Corporation|GmbH(?:\s&\sCo\.?\sKG(?:aA)?)?|AG|"
    r"KG(?:aA)?|OHG|e\.K|e\.V|S\.?A\.?R\.?L|S\.?A\.?S|S\.A(?:\.T)?|S\.L(?:\.U)?|S\.?L\.?L|S\.Com|S\.p\.A|SpA|"
    r"S\.?P\.?A|[sS]\.r\.l|SRL|s\.n\.c|B\.V|BV|N\.V|NV|VOF|Ltda|S/A|Groep|Group|Holdings?|Stiftung|"
    r"(?:and|&)\s(?:Sons|Partners|Co|Associates)|"
    r"und\sSöhne|et\s[Ff]ils|e\s[Ff]igli|e\s[Ff]ilhos|y\s[Aa]sociados|Associates|Technologies|Solutions|Industries|"
    r"Consulting|Logistics|Foods|Bakery)\.?"
)

IDENTIFIERS: tuple[Pattern, ...] = (
    Pattern("EMAIL", _form(r"(?<![\w.+-])[\w.!#$%&'*+/=?^`{|}~-]{0,64}[\w+-]@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]+")),
    Pattern("EMAIL", _form(
        r"(?<![\w.+-])[\w.+-]+\s?[\[({]\s?at\s?[\])}]\s?[\w-]+(?:\s?[\[({]\s?dot\s?[\])}]\s?[\w-]+|\.[\w-]+)+"
    )),
    Pattern("URL", _form(r"\b(?:https?|ftps?|sftp)://[^\s<>\"'`{}|\\^)\]]+(?<![.,;:!?])")),
    Pattern("URL", _form(r"(?<![\w@.-])www\d?\.[\w-]+(?:\.[\w-]+)+(?:[/?\#][^\s<>\"'`{}|\\^)\]]*)?(?<![.,;:!?])")),
    Pattern("URL", _form(
        rf"(?<![\w@./-])(?:[a-z0-9](?:[\w-]*\w)?\.)+{_TLD}(?![\w@-]|\.\w)(?:[/?\#][^\s<>\"'`{{}}|\\^)\]]*)?(?<![.,;:!?])"
    )),
    Pattern("IP_ADDRESS", _form(
        r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:/\d\d?)?(?![\w-]|\.\w)"
    ), checksums.ip_address, unless=_VERSION),
    Pattern("IP_ADDRESS", _form(r"(?<![\w:.])(?=[\da-f.]*:[\da-f]*:)[\da-f:]{2,39}(?:%\w+)?(?:/\d{1,3})?(?![\w:])"),
            checksums.ip_address),
    Pattern("MAC_ADDRESS", _form(r"(?<![\w:-])[\da-f]{2}([:-])(?:[\da-f]{2}\1){4}[\da-f]{2}(?![\w:-])")),
    Pattern("IBAN", _form(r"\b[A-Z]{2}\d{2}(?:(?:-|\s{1,2})?[A-Z0-9]){11,32}"), checksums.iban),
    Pattern("BIC", _form(r"\b[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b", re.NOFLAG), after=_named("bic|swift")),
    Pattern("CREDIT_CARD", _form(rf"{_NO_DIGIT_BEFORE}\d(?:[ -]?\d){{12,18}}(?![\w-]|[.,]\d|\ \d)"), checksums.card),
    # Sixteen digits of a known issuer may have other numbers beside them: the expiry date, the next card of a table.
    Pattern("CREDIT_CARD", _form(
        r"(?<![\w./-])(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6\d{3})([ -]?)(?:\d{4}\1){2}\d{4}(?![\w-]|\.\d|,\d\d?(?!\d))"
    ), checksums.card),
    Pattern("CREDIT_CARD", _form(r"(?<![\w-])\d(?:[ -]?\d){11}(?![\w-])"), checksums.card,
            after=_named("card|visa|maestro|mastercard|credit|debit|amex|karte|carte|tarjeta|carta|cartão")),
    Pattern("CREDIT_CARD", _form(r"(?<!\d)\d{3,4}(?!\d)"), after=_named("cvv2?|cvc2?|cid|security\\ code")),
    Pattern("US_SSN", _form(r"(?<![\w.-])\d{3}([- ])\d{2}\1\d{4}(?![\w-])"), checksums.ssn),
    Pattern("US_SSN", _form(r"(?<![\w.-])\d{9}(?![\w-])"), checksums.ssn,
            after=_named("ssn|ss\\#|social\\ security|social|itin|tax(?:payer)?")),
    Pattern("UK_NINO", _form(r"\b(?!BG|GB|NK|KN|TN|NT|ZZ\d)[A-Z]{2}\ ?\d{2}\ ?\d{2}\ ?\d{2}\ ?[A-D]?\b(?<=[A-DT\d])",
                             re.NOFLAG), after=re.compile(r"national\s+insurance|\bni(?:no)?\b|insurance", re.I)),
    Pattern("UK_NINO", _form(r"\b[A-Z]{2}\ ?\d{2}\ ?\d{2}\ ?\d{2}\ ?[A-DT]\b", re.NOFLAG)),
    Pattern("IT_FISCAL_CODE", _form(r"\b[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b")),
    Pattern("DNI", _form(r"(?<![\w-])(?:\d{8}|[XYZ][\ -]?\d{7})[\ -]?[A-Z](?![\w-])"), checksums.dni),
    Pattern("NIR", _form(r"(?<![\w-])[12]\ ?\d{2}\ ?\d{2}\ ?(?:\d{2}|2[AB])\ ?\d{3}\ ?\d{3}\ ?\d{2}(?![\w-])"),
            checksums.nir),
    Pattern("MEDICAL_RECORD", _form(r"\bMRN[-\#:\ ]{0,3}\d{4,12}\b")),
    Pattern("ORGANISATION", _form(
        rf"\b{_TITLED}(?:(?:,?\s(?:&|and|und|et|y|e|en|von|und\ zu|de|du|of)\s|,\s|\s-\s|\s){_TITLED}){{0,6}}"
        rf"(?:,?\s|\s-\s){_COMPANY}(?![\w])", re.NOFLAG
    )),
    Pattern("CPF", _form(r"(?<![\w.-])\d{3}\.\d{3}\.\d{3}-\d{2}(?![\w-])"), checksums.cpf),
    Pattern("API_KEY", _form(
        r"\b(?:sk|pk|rk)[-_](?:[a-z]+[-_])*[A-Za-z0-9]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b"
        r"|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{30,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*", re.NOFLAG
    )),
)  # fmt: skip
"""What its form or its checksum tells."""

_ID = (
    r"ssn|social\ security|national\ (?:id|identity|insurance|identification)|identity\ card|id\ card|"
    r"government[- ]issued\ id|personal\ id(?:entification)?|tax(?:payer)?\ (?:id|identification|reference|file)|itin|"
    r"tin|nino|aadhaar|pan\ card|bsn|burgerservicenummer|personalausweis(?:nummer)?|ausweis(?:nummer)?|"
    r"steuer(?:identifikations|id|-id)?(?:nummer)?|steuer-id|sozialversicherungsnummer|versicherungsnummer|"
    r"codice\ fiscale|dni|nie|nif|nir|cpf|contribuinte|sécurité\ sociale|seguridad\ social|rg"
)
_NAMED = (
    ("NATIONAL_ID", _ID),
    ("PASSPORT", r"passport|reisepass(?:nummer)?|passeport|pasaporte|passaporto|passaporte|paspoort(?:nummer)?"),
    ("DRIVERS_LICENSE", r"driv(?:er|ing)(?:['’]?s)?\ licen[cs]e|licen[cs]e\ (?:number|no|id|plate)|dl|visa|"
     r"führerschein(?:nummer)?|permis(?:\ de\ conduire)?|(?:carnet|permiso)\ de\ conducir|patente|rijbewijs(?:nummer)?|"
     r"carta\ de\ condução|cnh|(?:licen[cs]e|number)\ plate|registration\ plate|vin"),
    ("BANK_ACCOUNT", r"(?:bank|checking|savings|current|giro)?\ ?account|acct|sort\ code|routing|aba|"
     r"konto(?:nummer)?|iban|compte|cuenta|conto|conta|rekening(?:nummer)?|bban"),
    ("MEDICAL_RECORD", r"medical\ record|mrn|patient(?:\ id)?|pati[eë]nt(?:en)?nummer|hospital\ (?:number|no|id)|"
     r"health\ (?:plan|insurance|card|record)|nhs|medicare|medicaid|insurance\ (?:policy|member)|member\ id|chart|"
     r"krankenversicher(?:ung|tennummer)|dossier(?:\ m[ée]dical)?|historia\ cl[íi]nica|cartella\ clinica|"
     r"prontu[áa]rio|processo\ cl[íi]nico"),
)  # fmt: skip
_PASSWORD = r"(?=\S{0,40}(?:[\d@_!$%&*\#^+=]|[a-z]\S{0,40}[A-Z]))[^\s\"'`<>]{4,63}(?<![.,;:?])"
_WORD = r"(?=\S{0,40}(?:[\d@_.]|[a-z]\S{0,40}[A-Z]))[^\s,;\"'`<>()]{3,63}(?<![.!?:])"
_USER = (
    r"user[\ _-]?(?:name|id)|uid|log-?in|handle|screen\ name|nick(?:name)?|account\ name|benutzername|identifiant|"
    r"nom\ d['’]utilisateur|(?:nombre\ de\ )?usuario|nome\ utente|gebruikersnaam|(?:nome\ de\ )?usu[áa]rio"
)
_NO_USER = r"(?!(?:not|invalid|required|already|taken|wrong|unknown|case|your|the|my|always|also|never|still|empty)\b)"

NAMED: tuple[Pattern, ...] = (
    *(Pattern(label, _form(_NUMBER), after=_named(words)) for label, words in _NAMED),
    Pattern("PASSWORD", _form(r"(?<![\w])" + _PASSWORD, re.NOFLAG), after=_named(
        r"pass(?:word|phrase|code|wd)|passwort|mot\ de\ passe|contraseña|senha|palavra-passe|wachtwoord|pwd?"
    )),
    Pattern("USERNAME", _form(r"(?<![\w])@?" + _WORD, re.NOFLAG), after=_named(_USER)),
    Pattern("USERNAME", _form(rf"(?<![\w])@?{_NO_USER}[a-z][a-z0-9._-]{{2,31}}(?<![._-])(?![\w@])", re.NOFLAG),
            after=re.compile(rf"\b(?:{_USER})\s*(?:[:=]|\s(?:is|was|lautet|ist|est|es|è|é)\s)\s*[\"'@]?$", re.I)),
    Pattern("USERNAME", _form(r"(?<=@)[a-z_][\w.]{2,29}(?<!\.)(?![\w@])"), after=re.compile(
        r"\b(?:follow|dm|find|add|message|me|us|ig|insta(?:gram)?|twitter|tiktok|telegram|snapchat)\W{1,4}$", re.I
    )),
    Pattern("API_KEY", _form(r"(?<![\w])(?=[\w-]{0,40}\d)[\w-]{12,}"), after=_named(
        r"(?:api|secret|access|private)[ _-]?(?:key|token)|token(?:(?:\ \w+){1,5}\ is)?|bearer"
    )),
    Pattern("PIN", _form(r"(?<![\w.,-])\d{4,8}(?![\w-]|[.,]\d)"),
            after=_named(r"pin|passcode|access\ code|door\ code")),
    Pattern("AGE", _form(r"\b\d{1,3}[\s-](?:years?|yrs?|months?)[\s-](?:old|of\ age)\b|\baged\ \d{1,3}\b")),
)  # fmt: skip
"""What the words before it tell."""
