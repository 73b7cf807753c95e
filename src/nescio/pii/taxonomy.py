"""One taxonomy of personal data: the types, the type of each detector's labels, and dates of birth by their context."""

import re
from collections.abc import Collection
from typing import Literal, get_args

from nescio.core.errors import NescioError

PiiType = Literal[
    "person", "organisation", "place", "address", "phone", "email", "url", "ip", "birth_date", "date", "age",
    "national_id", "licence", "card", "account", "secret", "medical", "money", "other",
]  # fmt: skip
"""What a piece of personal data is. `licence` is a passport or a driving licence, `account` a bank account, `secret`
a user name, a password or a key, `medical` a number of a medical record or insurance."""

TYPES: tuple[PiiType, ...] = get_args(PiiType)

NOT_COUNTED: tuple[PiiType, ...] = ("date", "age", "money", "other")
"""Types that say little about a person without another piece; the detector `default` finds and does not count them."""

COUNTED: tuple[PiiType, ...] = tuple(kind for kind in TYPES if kind not in NOT_COUNTED)
"""Types that the detector `default` counts."""

STRUCTURED: frozenset[PiiType] = frozenset(
    ("phone", "email", "url", "ip", "birth_date", "national_id", "licence", "card", "account", "secret", "medical")
)
"""Types whose form tells them; where one overlaps a name or a place, it keeps its characters."""

# Labels of spaCy, Presidio, Rampart, the common token classifiers of the hub, and the slots of LLM-PC.
_LABELS: dict[PiiType, str] = {
    "person": """PERSON PER NAME GIVEN_NAME GIVENNAME FIRST_NAME FIRSTNAME MIDDLE_NAME MIDDLENAME LAST_NAME LASTNAME
        LASTNAME1 LASTNAME2 LASTNAME3 SURNAME FULL_NAME FULLNAME PATIENT DOCTOR STAFF HCW NICKNAME""",
    "organisation": """ORGANISATION ORGANIZATION ORG COMPANY COMPANY_NAME COMPANYNAME HOSPITAL VENDOR EMPLOYER SCHOOL
        DE_HANDELSREGISTER""",
    "place": "PLACE LOCATION LOC GPE FAC CITY STATE COUNTY COUNTRY REGION",
    "address": """ADDRESS HOME_ADDRESS POSTAL_ADDRESS
        STREET STREET_NAME STREETNAME STREET_NUMBER HOUSE_NUMBER STREET_ADDRESS STREETADDRESS BUILDING BUILDING_NUMBER
        BUILDINGNUM BUILDINGNUMBER SECONDARY_ADDRESS SECONDARYADDRESS SECADDRESS ZIP ZIP_CODE ZIPCODE POSTCODE
        POSTAL_CODE POSTALCODE UK_POSTCODE COORDINATE GEOCOORD NEARBYGPSCOORDINATE GPS_COORDINATES DE_PLZ""",
    "phone": """PHONE PHONE_NUMBER PHONENUMBER TELEPHONE TELEPHONE_NUMBER TELEPHONENUM TEL FAX FAX_NUMBER MOBILE
        CELL CELLPHONE CELLULAR TELEFON TELEFONO TELEFONE HANDY""",
    "email": "EMAIL EMAIL_ADDRESS E_MAIL E_MAIL_ADDRESS MAIL MAIL_ADDRESS",
    "url": "URL WEBSITE URI HTTP DOMAIN DOMAIN_NAME",
    "ip": "IP IP_ADDRESS IPADDRESS IPV4 IPV6 MAC MAC_ADDRESS MACADDRESS",
    "birth_date": "BIRTH_DATE DATE_OF_BIRTH DATEOFBIRTH DOB BIRTHDAY BIRTHDATE BOD BORN",
    "date": "DATE DATE_TIME DATETIME TIME",
    "age": "AGE",
    "national_id": """NATIONAL_ID GOVERNMENT_ID GOV_ID IDCARD IDCARDNUM ID_CARD SOCIALNUM SOCIAL_SECURITY_NUMBER
        SOCIALNUMBER SSN US_SSN US_ITIN TAX_ID TAXNUM TAX_NUMBER IT_FISCAL_CODE IT_IDENTITY_CARD IT_VAT_CODE ES_NIF
        ES_NIE PL_PESEL FI_PERSONAL_IDENTITY_CODE IN_PAN IN_AADHAAR IN_VOTER IN_GSTIN SG_NRIC_FIN SG_UEN AU_TFN AU_ABN
        AU_ACN UK_NINO KR_RRN KR_BRN KR_FRN TH_TNIN SE_PERSONNUMMER SE_ORGANISATIONSNUMMER ZA_ID_NUMBER NG_NIN
        TR_NATIONAL_ID CA_SIN DE_TAX_ID DE_TAX_NUMBER DE_ID_CARD DE_SOCIAL_SECURITY DE_VAT_CODE DE_VAT_ID PH_UMID PH_SSS
        PH_TIN CPF CNPJ BSN NIR DNI""",
    "licence": """LICENCE LICENSE PASSPORT PASSPORT_NUMBER PASSPORTNUM PASSPORTNUMBER PASS US_PASSPORT IT_PASSPORT
        UK_PASSPORT ES_PASSPORT DE_PASSPORT IN_PASSPORT KR_PASSPORT CA_PASSPORT DRIVERS_LICENSE DRIVER_LICENSE
        DRIVERLICENSE DRIVERLICENSENUM DRIVERLICENSENUMBER DRIVERS_LICENSE_NUMBER US_DRIVER_LICENSE IT_DRIVER_LICENSE
        UK_DRIVING_LICENCE DE_DRIVER_LICENSE DE_FUEHRERSCHEIN DE_KFZ KR_DRIVER_LICENSE VEHICLEVRM VEHICLEVIN VEHICLE_ID
        LICENSE_PLATE UK_VEHICLE_REGISTRATION IN_VEHICLE_REGISTRATION NG_VEHICLE_REGISTRATION DE_LICENSE_PLATE
        TR_LICENSE_PLATE""",
    "card": "CARD CREDIT_CARD CREDITCARD CREDIT_CARD_NUMBER CREDITCARDNUMBER CREDIT_DEBIT_CARD CVV CREDITCARDCVV",
    "account": """ACCOUNT BANK_ACCOUNT BANK_NUMBER US_BANK_NUMBER ACCOUNTNUM ACCOUNTNUMBER ACCOUNT_NUMBER IBAN
        IBAN_CODE BIC SWIFT BANK_ROUTING_NUMBER ROUTING_NUMBER ABA_ROUTING_NUMBER BBAN CRYPTO BITCOINADDRESS
        ETHEREUMADDRESS LITECOINADDRESS CRYPTO_WALLET""",
    "secret": """SECRET USERNAME USER_NAME USER LOGIN LOGIN_NAME SCREEN_NAME PASSWORD PWD PIN API_KEY KEY TOKEN
        ACCESS_TOKEN""",
    "medical": """MEDICAL MEDICAL_RECORD MEDICALRECORD MEDICAL_RECORD_NUMBER MRN MEDICAL_LICENSE HEALTHPLAN
        HEALTH_PLAN_BENEFICIARY_NUMBER HEALTH_INSURANCE_ID UK_NHS AU_MEDICARE US_MBI US_NPI DE_HEALTH_INSURANCE DE_KVNR
        DE_LANR DE_BSNR""",
    "money": "MONEY AMOUNT PRICE SALARY",
    "other": "OTHER DENIED",
}
_PEOPLE = """
    APPLICANT AUTHOR BIRTH BROTHER CALLER CARDHOLDER CHILD CLIENT CONTACT CUSTOMER DAUGHTER DOCTOR EMPLOYEE FAMILY
    FATHER FRIEND GUEST HOLDER HUSBAND MAIDEN MANAGER MEMBER MOTHER NURSE OWNER PARENT PARTNER PASSENGER PATIENT PERSON
    PREFERRED RECIPIENT SENDER SISTER SON SPOUSE STAFF STUDENT SUBSCRIBER TEACHER TENANT WIFE
"""
"""Words before "name" that make it a person's; the name of a file is nobody's."""
_TYPE_OF: dict[str, PiiType] = {label: kind for kind, labels in _LABELS.items() for label in labels.split()}
_TYPE_OF |= {f"{whose}{joint}NAME": "person" for whose in _PEOPLE.split() for joint in ("_", "")}

# "born", "birthday", "date of birth" and the like, in the languages that the detectors read, with what may stand
# between them and the date: a few words of one sentence.
_BIRTH = (
    r"\b(?:born|births?|birth[\s_-]*(?:date|day)s?|b-?day|d\.?\s?o\.?\s?b\b\.?|came\s+into\s+the\s+world|b\.(?=\s*$)|"
    r"geboren(?:\s+am)?|geburts(?:datum|tag)|geb\.|n[ée](?:e|\(e\))?\s+le|naissance|anniversaire|"
    r"nac(?:[íi]|i[óo])\b|nacid[oa]|nacimiento|cumplea[ñn]os|nat[oa]\s+il|nascita|compleanno|"
    r"nascid[oa]|nasc(?:i|eu)\b|nascimento|anivers[áa]rio|geboorte(?:datum)?|verjaardag)"
)
_BIRTH_NAMED = (
    r"\b(?:date\s+of\s+birth|birth[\s_-]*date|dob|geburtsdatum|date\s+de\s+naissance|fecha\s+de\s+nacimiento|"
    r"data\s+(?:di\s+nascita|de\s+nascimento)|geboortedatum)"
)
_BIRTH_BEFORE = re.compile(  # not past the sentence's end, unless the date is named in full
    _BIRTH + r"(?:(?![!?]\s|(?<=\w{3})\.\s)\D){0,48}$|" + _BIRTH_NAMED + r"\b\D{0,60}$", re.I
)
_BIRTH_AFTER = re.compile(
    r"^[\s,)]{0,3}(?:is|was|as|being|=|[-–—])?\s*(?:(?:his|her|my|their|your|the|listed|given|on\s+file|as)\s+){0,4}"
    + _BIRTH
    + r"|^[\s,)]{0,3}\(?(?:birthday|date\s+of\s+birth|dob|born)\b",
    re.I,
)
_AGE = re.compile(r"\baged?\b|\b(?:years?|yrs?|months?)[\s-]+(?:old|of\s+age)\b", re.I)


# Last words of a column's name that say nothing by themselves, and the types that the words before them may tell then:
# a `company id` is no company, an `account name` no account. "type" and "text" do say something, so an `email text` is
# no address.
_SAYS_NOTHING: dict[str, Collection[PiiType]] = {
    "name": ("person", "organisation", "place"),
    **dict.fromkeys(("number", "no", "nr", "num", "nummer", "id"), STRUCTURED),
    **dict.fromkeys(("value", "line", "private", "work", "home", "1", "2", "3"), TYPES),
}


def type_of(label: str) -> PiiType:
    """Return the type of a label, in any of the usual spellings: `B-GivenName`, `GIVEN_NAME` and `NAME-1` are persons.

    Args:
        label: A detector's own word; what is not known here is `other`.
    """
    plain = re.sub(r"[\s.\-]+", "_", re.sub(r"^[BIESLU]-|-?\d+$", "", label.strip())).upper()
    return _TYPE_OF.get(plain) or _TYPE_OF.get(plain.replace("_", "")) or "other"


def type_of_column(name: str) -> PiiType:
    """Return the type of a column that people have named: `home phone` and `mobile number` are telephone numbers.

    Args:
        name: The column's name. Its last words say what it holds; "name", "number" and the like say nothing alone.
    """
    words = re.findall(r"[^\W_]+", name)
    possible: Collection[PiiType] = TYPES
    for end in range(len(words), 0, -1):
        allowed = _SAYS_NOTHING.get(words[end - 1].casefold()) if end > 1 else None
        # A last word that says nothing counts together with those before it only: "first name", not "name".
        kinds = (type_of(" ".join(words[start:end])) for start in range(end if allowed is None else end - 1))
        kind: PiiType = next((each for each in kinds if each != "other"), "other")
        if kind != "other" or allowed is None:
            return kind if kind in possible else "other"
        possible = [each for each in possible if each in allowed]
    return "other"


def type_of_date(text: str, start: int, end: int) -> PiiType:
    """Tell dates of birth and ages from other dates, by the date and the words around it.

    Args:
        text: The text.
        start: Where the date begins.
        end: Where it ends.
    """
    if _AGE.search(text, start, end):
        return "age"
    born = _BIRTH_BEFORE.search(text, max(0, start - 80), start) or _BIRTH_AFTER.match(text[end : end + 60])
    return "birth_date" if born else "date"


def checked_type(name: str, where: str) -> PiiType:
    """Return a type by its name.

    Args:
        name: What somebody wrote.
        where: The setting it was written in; begins the error's line.

    Raises:
        NescioError: There is no such type.
    """
    for kind in TYPES:
        if kind == name:
            return kind
    raise NescioError(f"{where}: {name!r} is not a type of personal data; the types are {', '.join(TYPES)}")
