"""Actions by type: what each does, which one counts, and the stand-ins of one answer."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from running import POLICIES, STAFF, Letters, Running
from says import Says

from nescio.pii.base import Span
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker
from nescio.serve.output_filter import OutputFilter

WORDS = {
    "PERSON": r"Anna(?: Ferrari)?(?:'s)?|Tom Berg|FERRARI",
    "PHONE_NUMBER": r"\+41 \d\d",
    "EMAIL_ADDRESS": r"\w+@\w+\.\w+",
    "US_SSN": r"123-45-\d{4}",
    "ORG": r"Acme(?: of Anna)?",
}


class Typed:
    """Finds what `WORDS` matches; spans may overlap."""

    name = "typed"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(m.start(), m.end(), label, m[0]) for label, words in WORDS.items() for m in re.finditer(words, text)]
            for text in texts
        ]


def sent(text: str, **audit: Any) -> tuple[str, OutputFilter, list[str]]:
    output_filter = OutputFilter(Checker(Typed(), Audit.model_validate(audit)))
    parts = [part for letter in text for part in output_filter.feed(letter)] + output_filter.finish()
    return "".join(p.text for p in parts), output_filter, [span.label for part in parts for span in part.spans]


TEXT = "Anna has +41 22 and 123-45-6789 at Acme."


def test_each_action() -> None:
    types = {"person": "count", "phone": "allow", "national_id": "mask"}
    text, _, counted = sent(TEXT, default="replace", types=types)
    assert re.fullmatch(r"Anna has \+41 22 and \[US_SSN\] at [A-Z][a-z]+ Company\.", text)
    assert counted == ["PERSON", "US_SSN", "ORG"], "what is allowed is not counted"
    text, output_filter, _ = sent("All is fine. " + TEXT, types={"phone": "block"})
    assert (text, output_filter.blocked) == ("All is fine. ", True)


def test_a_label_comes_before_its_type_and_the_type_before_the_default() -> None:
    audit = Audit.model_validate({"default": "mask", "types": {"national_id": "count", "US_SSN": "block"}})
    labels = ("US_SSN", "UK_NINO", "PERSON")
    assert [audit.action(Span(0, 1, label, "x")) for label in labels] == ["block", "count", "mask"]


def test_allowed_texts_never_count() -> None:
    text, _, counted = sent(TEXT, allow=["acme", "+41\u00a022"])
    assert text == "[PERSON] has +41 22 and [US_SSN] at Acme."
    assert counted == ["PERSON", "US_SSN"]


def test_texts_are_allowed_for_a_type_or_a_label() -> None:
    for allow, masked in (
        ({"person": ["Anna"]}, "Anna has [PHONE] and [US_SSN] at [ORG]."),
        (
            {"any": ["acme"], "phone": ["Anna"], "US_SSN": ["123-45-6789"]},
            "[PERSON] has [PHONE] and 123-45-6789 at Acme.",
        ),
    ):
        assert re.sub(r"\[PHONE\w*\]", "[PHONE]", sent(TEXT, allow=allow)[0]) == masked
    with pytest.raises(ValidationError, match="persn is not a type of personal data"):
        Audit.model_validate({"allow": {"persn": ["Anna"]}})
    for written in ({"person": ("Anna",)}, ["Anna"]):
        assert Audit.model_validate({"allow": written}).model_dump()["allow"] == written


def test_where_pieces_overlap_the_strictest_action_counts() -> None:
    assert sent("Acme of Anna Ferrari is here.", default="count", types={"person": "mask"})[0] == "[ORG] is here."
    assert sent("Acme of Anna Ferrari is here.", types={"organisation": "allow"})[0] == "Acme of [PERSON] is here."
    assert sent("Acme of Anna is here.", default="count", types={"person": "block"})[1].blocked


def test_the_same_person_has_the_same_stand_in() -> None:
    text, _, _ = sent(
        "Anna Ferrari wrote to Tom Berg. Anna's mail is anna@mail.ch, so ask FERRARI. Again: anna@mail.ch, Tom Berg.",
        default="replace",
    )
    found = re.fullmatch(
        r"(\w+) (\w+) wrote to (\w+) (\w+)\. (\w+)'s mail is (\S+), so ask (\w+)\. Again: (\S+), (\w+) (\w+)\.", text
    )
    assert found, text
    given, family, given2, family2, again, mail, shouted, mail2, third, fourth = found.groups()
    assert (again, shouted, mail2, (third, fourth)) == (given, family.upper(), mail, (given2, family2))
    assert len({given, family, given2, family2}) == 4
    assert not re.search("Anna|Ferrari|Tom|Berg|mail", text.replace(" mail is", ""))


def test_another_answer_has_other_stand_ins() -> None:
    texts = {sent("Anna Ferrari is here.", default="replace")[0] for _ in range(5)}
    assert len(texts) == 5, "nobody can make a table of names and their stand-ins"


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ("hide", "must be off, allow, count, replace, mask, block, or a mapping"),
        ({"types": {"persn": "mask"}}, "persn is not a type of personal data; the types are person, organisation"),
        ({"types": {"person": "hide"}}, "Input should be 'allow', 'count'"),
        ({"default": "off", "types": {"person": "mask"}}, "write default: allow"),
        ({"type": {}}, "Extra inputs"),
        (3, "must be off"),
    ],
)
def test_mistakes(audit: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Audit.model_validate(audit)


def test_short_and_long_forms_are_written_back() -> None:
    for written in ("mask", "off", {"default": "count", "types": {"person": "block"}, "allow": ["Acme"]}):
        assert Audit.model_validate(written).model_dump() == written
    assert Audit.model_validate(False).off
    assert not Audit.model_validate({"default": "allow", "types": {"person": "mask"}}).off


def test_an_answer_is_read_with_what_it_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, find = list[str](), Letters.find

    def found(self: Letters, texts: Sequence[str]) -> list[list[Span]]:
        seen.extend(texts)
        return find(self, texts)

    monkeypatch.setattr(Letters, "find", found)
    engine = Says()
    engine.says = lambda request: "in 1981"
    server = Running(engine, POLICIES.replace("audit: off", "audit: mask").replace("logprobs: true, ", ""))
    question = {"role": "user", "content": "when was she born?"}
    try:
        server.chat(key=STAFF, model="tiny", messages=[question])
        server.chat(key=STAFF, model="tiny", messages=[question, {"role": "assistant", "content": "she was born "}])
        server.post("completions", {"model": "tiny", "prompt": "she was "}, STAFF)
    finally:
        server.stop()
    assert seen[:4] == ["in 1981", "when was she born?\nin 1981", "in 1981", "she was born in 1981"]
    assert seen[5].endswith("she was in 1981"), "a completion goes on with its prompt"
