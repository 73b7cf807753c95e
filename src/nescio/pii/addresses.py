"""Postal addresses of several countries, from the house number and the street to the postcode and the town."""

import re
from collections.abc import Iterator

_CAPITAL = r"(?:St\.|[A-ZÀ-ÖØ-Þ][\w'’-]{0,40})"
_NUMBER = r"\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_COMMA = r"[,\s]{1,3}"


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_SMALL = _any(
    r"""
    de du des la le les del della dello dei degli di da do dos das el los las van von der den of the and y e et
    l' d'
    """
)
# English street names end so, as the postal service of the United States lists them.
_SUFFIX = _any(
    r"""
    Street St Road Rd Avenue Ave Av Boulevard Blvd Lane Ln Drive Dr Court Ct Place Pl Square Sq Terrace Ter Way
    Parkway Pkwy Highway Hwy Circle Cir Trail Trl Crescent Close Mews Gardens? Grove Row Walk Alley Plaza Loop
    Pike Expressway Freeway Turnpike Crossing
    """
)
_RARE_SUFFIX = _any(
    r"""
    Hill Green Park Rise Path Route Bypass Cove Crossroad Estates? Extension Field Fields Flats? Ford Forest
    Forge Fork Forks Fort Glen Glens Harbor Haven Heights Hills Hollow Inlet Island Isle Junction Junctions Key
    Keys Knoll Knolls Lake Lakes Landing Locks? Lodge Mall Manors? Meadows? Mills? Mission Motorway Mount
    Mountains? Neck Orchard Oval Overpass Parks Parkways Pass Passage Pine Pines Plains? Points? Ports? Prairie
    Radial Ramp Ranch Rapids? Rest Ridges? River Run Shoals? Shores? Skyway Springs? Spurs? Squares Station
    Stravenue Stream Streets Summit Throughway Trace Track Trafficway Tunnel Underpass Unions? Valleys? Via
    Viaduct Views? Villages? Ville Vista Walks Wall Ways Wells? Brooks? Burgs? Camp Canyon Cape Causeway
    Centers? Circles Cliffs? Club Common Corners? Course Courts Coves Creek Crest Curve Dale Dam Divide Drives
    Bayou Beach Bend Bluffs? Bottom Branch Bridge
    """
)
# French, Spanish, Italian and Portuguese ones begin so.
_STREETS_BEFORE = _any(
    r"""
    [Rr]ue [Aa]venue [Bb]oulevard [Cc]hemin [Pp]lace [Qq]uai [Ii]mpasse [Aa]llée [Rr]oute [Cc]ours [Cc]alle C/
    [Aa]venida [Pp]aseo [Pp]laza [Rr]onda [Cc]amino [Cc]arrer [Gg]lorieta [Pp]asadizo [Cc]añada [Aa]cceso
    [Cc]allejón [Cc]uesta [Rr]ambla [Vv]ial [Uu]rbanización [Pp]asaje [Vv]ia [Vv]iale [Pp]iazza [Cc]orso
    [Ll]argo [Vv]icolo [Ss]trada [Bb]orgo [Cc]ontrada [Ii]ncrocio [Cc]anale [Rr]otonda [Rr]ua R\. [Tt]ravessa
    [Aa]lameda [Ee]strada [Pp]raça [Ll]adeira [Vv]iela [Vv]ereda [Jj]ardim [Pp]arque [Rr]ecanto [Rr]esidencial
    [Cc]ondomínio [Cc]olônia [Dd]istrito [Ee]splanada [Ee]stação [Ff]avela [Ff]azenda [Ff]eira [Ll]ago [Ll]agoa
    [Ll]oteamento [Mm]orro [Nn]úcleo [Pp]assarela [Pp]átio [Qq]uadra [Ss]etor [Ss]ítio [Tt]recho [Tt]revo
    [Vv]iaduto [Vv]ila [Aa]eroporto [Cc]ampo [Cc]hácara [Cc]onjunto [Áá]rea
    """
)
_UNIT = _any(
    r"""
    Apt Apartment Suite Ste Unit Flat Studio Room Rm Floor Building Bldg Interior Puerta Piso Esc Andar Apto
    Etage Appartamento Appt
    """
)
_POSTCODE = (
    r"(?:\d{5}(?:-?\d{3}|-\d{4})?|\d{4}\s?[A-Z]{2}|\d{4}-\d{3}|[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}|[A-Z]\d[A-Z]\s?\d[A-Z]\d"
    r"|\d{4})"
)
_TOWN = rf"{_CAPITAL}(?:[\s-](?:{_CAPITAL}|{_SMALL}(?=\s{_CAPITAL}))){{0,3}}"
_TAIL = (
    rf"(?:{_COMMA}\#?{_UNIT}\.?\s?\#?\w{{1,5}}\b)?"
    rf"(?:{_COMMA}(?:(?:{_TOWN}{_COMMA})?(?:[A-Z]{{1,2}}-)?{_POSTCODE}\b{_COMMA}{_TOWN}(?:(?:\s/)?\s?\(?\b[A-Z]{{2}}\b\)?)?"
    rf"|{_TOWN}{_COMMA}(?:{_TOWN}{_COMMA})?(?:[A-Z]{{2}}\s)?{_POSTCODE}\b|{_POSTCODE}\b))?"
)
_NAME = rf"(?:{_SMALL}['’\s]?\s?|{_CAPITAL}[\s-]|\d{{1,2}}\.?\s|d['’]|l['’]){{0,5}}{_CAPITAL}"
_TOWN_FOLLOWS = rf"(?={_COMMA}(?:\#?{_UNIT}\b|{_TOWN}{_COMMA}(?:[A-Z]{{2}}\s)?{_POSTCODE}))"
_WHERE = (
    r"(?:(?<=\bto\s)|(?<=\bat\s)|(?<=\bfrom\s)|(?<=\bnear\s)|(?<=\boutside\s)|(?<=\bfront\sof\s)|(?<=[:;,(]\s)"
    r"|(?<=[|\"]))"
)
_ONE_WORD = (  # Musterstraße 12, Kerkstraat 7
    r"(?:[A-ZÄÖÜ][\w.]{0,40}[\s-]){0,3}[A-ZÄÖÜ]?[\w.']{0,40}"
    r"(?i:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|ring|ufer|damm|straat|laan|baan|plein|gracht|kade|dijk|steeg|singel|"
    r"dreef|boulevard|markt|hof|pad)"
)

_FORMS = tuple(
    re.compile(form)
    for form in (
        # 12 Baker Street, Flat 3, London NW1 6XE; 742 Evergreen Terrace, Springfield, IL 62704
        rf"\b(?:{_UNIT}\.?\s?\w{{1,5}}{_COMMA})?{_NUMBER}\s(?:(?:North|South|East|West|N|S|E|W|NE|NW|SE|SW)\.?\s)?"
        rf"(?:{_CAPITAL}\s|\d{{1,3}}(?:st|nd|rd|th)\s){{1,4}}(?:{_SUFFIX}\b\.?|{_RARE_SUFFIX}\b{_TOWN_FOLLOWS}){_TAIL}",
        # We met at 12 Rocky Point.
        rf"{_WHERE}{_NUMBER}\s(?:{_CAPITAL}\s){{1,3}}{_RARE_SUFFIX}\b(?!\s[A-Z])",
        # Flat 12, Rose lodge, West Amy, SW1A 1AA
        rf"\b{_UNIT}\.?\s\d{{1,4}}[A-Za-z]?{_COMMA}(?:{_CAPITAL}(?:\s[\w'’-]+){{0,3}}{_COMMA}){{1,3}}{_POSTCODE}\b",
        # P.O. Box 123, Springfield; PSC 1234, Box 5678, APO AP 12345; Unit 1234 Box 5678
        r"\b(?:P\.?\s?O\.?\s?Box|Postfach|BP|Apartado(?:\sde\sCorreos)?|Casella\sPostale|Caixa\sPostal|Postbus)"
        rf"\s\d{{1,6}}\b{_TAIL}",
        r"\b(?:(?:PSC|CMR|Unit)\s\d{2,5},?\s+Box\s\d{1,5}|US(?:NS|NV|S|CGC)\s[A-Z]\w+)[,\s]{1,3}"
        r"(?:APO|FPO|DPO)\s(?:AA|AE|AP)\s\d{5}\b",
        # 12 bis, rue de la Paix, 75002 Paris
        rf"\b{_NUMBER}(?:\s(?:bis|ter))?,?\s{_STREETS_BEFORE}\s{_NAME}{_TAIL}",
        # Calle Mayor 12, 28013 Madrid; Via Roma, 12; Rua das Flores, 12
        rf"(?<!\w){_STREETS_BEFORE}\s{_NAME},?\s(?:n[º°.]?\s?|nr\.?\s?)?{_NUMBER}\b"
        rf"(?:{_COMMA}(?:{_UNIT}\.?\s?)?\w{{1,4}}\b(?=[,\n]))?{_TAIL}",
        # Musterstraße 12, 12345 Berlin; Kerkstraat 7, 1234 AB Amsterdam
        rf"\b{_ONE_WORD}\s{_NUMBER}\b{_TAIL}",
        # Postcode and town of the United Kingdom, the Netherlands and Germany
        r"\b(?:GIR\s?0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d(?:\d|[A-Z])?|\d[A-HJKPSTUW])\s\d[ABD-HJLNP-UW-Z]{2})\b",
        # Springfield, IL 62704
        rf"\b{_CAPITAL}(?:\s{_CAPITAL}){{0,2}},\s[A-Z]{{2}}\s\d{{5}}(?:-\d{{4}})?\b",
    )
)


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a text has postal addresses; two of them may overlap."""
    if not any(map(str.isdigit, text)):
        return
    for form in _FORMS:
        for match in form.finditer(text):
            yield match.span()
