"""Labelled texts for benchmarks/detect.py: sentences filled with Faker's values, texts without any, dialogs' slots."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

from faker import Faker

from nescio.data.dialogs import parse_dialog
from nescio.data.labelled import labelled_dialog
from nescio.data.synthetic import generate
from nescio.pii.base import Span
from nescio.pii.labelled import Labelled

LOCALES = {
    "en_US": "en", "en_GB": "en", "de_DE": "de", "fr_FR": "fr", "es_ES": "es", "it_IT": "it", "nl_NL": "nl",
    "pt_BR": "pt",
}  # fmt: skip
_SLOT = re.compile(r"\{(\w+)\}")
_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
}
_DATES = {
    "en": ("{m:02}/{d:02}/{y}", "{month} {d}, {y}", "{d} {month} {y}", "{y}-{m:02}-{d:02}"),
    "de": ("{d:02}.{m:02}.{y}", "{d}. {month} {y}"),
    "fr": ("{d:02}/{m:02}/{y}", "{d} {month} {y}"),
    "es": ("{d:02}/{m:02}/{y}", "{d} de {month} de {y}"),
    "it": ("{d:02}/{m:02}/{y}", "{d} {month} {y}"),
    "nl": ("{d:02}-{m:02}-{y}", "{d} {month} {y}"),
    "pt": ("{d:02}/{m:02}/{y}", "{d} de {month} de {y}"),
}
_MONEY = {
    "en_US": "${0:,.2f}", "en_GB": "£{0:,.0f}", "de_DE": "{0:_.2f} €", "fr_FR": "{0:.0f} €", "es_ES": "{0:_.2f} €",
    "it_IT": "{0:_.2f} euro", "nl_NL": "€ {0:_.2f}", "pt_BR": "R$ {0:_.2f}",
}  # fmt: skip
_LICENCES = {
    "en_US": "?#######", "en_GB": "?????######??#??", "de_DE": "?##?#####?#", "fr_FR": "############",
    "es_ES": "########-?", "it_IT": "??#######?", "nl_NL": "##########", "pt_BR": "###########",
}  # fmt: skip
_RECORDS = ("MRN-######", "########", "??-#####-#", "H######")


@dataclass(frozen=True)
class Template:
    """A line of such a file: what it is about, in which language and kind of text, and its words."""

    type: str
    language: str
    kind: str
    text: str


def templates(file: str) -> list[Template]:
    """Every sentence of a file of this folder."""
    found, section = [], ""
    for line in Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            head, _, text = line.partition(" | ")
            language, kind = head.split()
            found.append(Template(section, language, kind, text.replace("\\n", "\n")))
    return found


def filled(file: str, seed: int, every_locale: bool) -> list[Labelled]:
    """The sentences of a file with values; their places say type, kind, language and locale.

    Args:
        file: Its name, in this folder.
        seed: Seed of the values.
        every_locale: Fill an English sentence once with the values of each locale; else once, with one locale's.
    """
    values = {locale: _Values(locale, seed) for locale in LOCALES}
    texts = []
    for number, template in enumerate(templates(file)):
        own = [locale for locale, language in LOCALES.items() if template.language in ("en", language)]
        plain = not _SLOT.search(template.text)
        for locale in own[:1] if plain else own if every_locale else [own[number % len(own)]]:
            text, spans = _fill(template, values[locale])
            place = f"{template.type} {template.kind} {template.language} {locale}"
            texts.append(Labelled(place, text, spans))
    return texts


def _fill(template: Template, values: "_Values") -> tuple[str, list[Span]]:
    text, spans, position = "", [], 0
    for slot in _SLOT.finditer(template.text):
        text += template.text[position : slot.start()]
        value = values.of(slot[1], template.language)
        spans.append(Span(len(text), len(text) + len(value), slot[1].removesuffix("_lines"), value))
        text, position = text + value, slot.end()
    return text + template.text[position:], spans


class _Values:
    """Faker's values of a locale, and what Faker has not."""

    def __init__(self, locale: str, seed: int) -> None:
        self._locale, self._random = locale, Random(f"{seed} {locale}")
        self._faker = Faker(locale)
        self._faker.seed_instance(self._random.random())

    def of(self, slot: str, language: str) -> str:
        """A value of a slot, in a sentence of a language."""
        made: Callable[..., str] | None = getattr(self, f"_{slot}", None)
        return made(language) if made else str(getattr(self._faker, _FAKER.get(slot, slot))())

    def _person(self, _: str) -> str:
        return f"{self._faker.first_name()} {self._faker.last_name()}"

    def _address(self, _: str) -> str:
        return str(self._faker.address()).replace("\n", ", ")

    def _email(self, _: str) -> str:
        return str(self._random.choice([self._faker.free_email, self._faker.company_email])())

    def _ip(self, _: str) -> str:
        return str(self._faker.ipv4_public() if self._random.random() < 0.7 else self._faker.ipv6())

    def _birth_date(self, language: str) -> str:
        return self._day(language, 1935, 2012)

    def _date(self, language: str) -> str:
        return self._day(language, 2019, 2027)

    def _day(self, language: str, first: int, last: int) -> str:
        day = date(self._random.randint(first, last), self._random.randint(1, 12), self._random.randint(1, 28))
        form, month = self._random.choice(_DATES[language]), _MONTHS[language].split()[day.month - 1]
        return form.format(d=day.day, m=day.month, y=day.year, month=month)

    def _age(self, _: str) -> str:
        return str(self._random.randint(3, 96))

    def _national_id(self, _: str) -> str:
        names = {"es_ES": "nif", "pt_BR": "cpf"}
        return str(getattr(self._faker, names.get(self._locale, "ssn"))())

    def _licence(self, _: str) -> str:
        return str(self._faker.bothify(_LICENCES[self._locale]).upper())

    def _card(self, _: str) -> str:
        number = str(self._faker.credit_card_number(self._random.choice(["visa16", "mastercard", "amex"])))
        parts = (4, 6, 5) if len(number) == 15 else (4, 4, 4, 4)
        ends = [sum(parts[: n + 1]) for n in range(len(parts))]
        between = self._random.choice(["", " ", "-"])
        return between.join(number[end - part : end] for end, part in zip(ends, parts, strict=True))

    def _iban(self, _: str) -> str:
        iban = str(self._faker.iban())
        return iban if self._random.random() < 0.5 else " ".join(iban[n : n + 4] for n in range(0, len(iban), 4))

    def _account(self, _: str) -> str:
        return str(self._faker.bothify("#" * self._random.randint(8, 12)))

    def _token(self, _: str) -> str:
        return str(self._random.choice([self._faker.sha1, lambda: f"key-{self._faker.password(28, False)}"])())

    def _medical_record(self, _: str) -> str:
        return str(self._faker.bothify(self._random.choice(_RECORDS)).upper())

    def _money(self, _: str) -> str:
        amount = _MONEY[self._locale].format(self._random.randint(20, 90_000) + self._random.random())
        if "_" not in amount:
            return amount
        return amount.replace(".", ",").replace("_", ".")


_FAKER = {
    "organisation": "company", "place": "city", "street": "street_address", "address_lines": "address",
    "phone": "phone_number", "username": "user_name", "passport": "passport_number",
}  # fmt: skip


def dialogs(count: int) -> Iterator[Labelled]:
    """The turns of made-up dialogs with their recorded slots."""
    for row in generate(count, seed=0):
        yield from labelled_dialog(parse_dialog(row, row["id"]))
