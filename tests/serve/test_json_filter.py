"""The audit of JSON: personal data in it is found as in a text, and JSON stays JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nescio.pii.base import Span
from nescio.serve.audit import Audit
from nescio.serve.checker import Checker, FilterError
from nescio.serve.json_filter import JsonFilter

NAMES = re.compile(r"Anna\s+Ferrari|Anna|Ferrari|phone: \d+|555-\d+")


class Known:
    """Finds what `NAMES` matches; a number only after the word `phone`."""

    name = "known"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Span(m.end() - len(m[0].removeprefix("phone: ")), m.end(), "PII", m[0]) for m in NAMES.finditer(text)]
            for text in texts
        ]


class Broken:
    name = "broken"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        raise RuntimeError


def sent(text: str, audit: Any = "mask") -> tuple[str, JsonFilter, list[Span]]:
    json_filter = JsonFilter(Checker(Known(), Audit.model_validate(audit)))
    assert all(json_filter.feed(letter) == [] for letter in text), "nothing leaves before the end"
    parts = json_filter.finish()
    return "".join(part.text for part in parts), json_filter, [span for part in parts for span in part.spans]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('{"to": "Anna Ferrari", "n": 3}', '{"to": "[PII]", "n": 3}'),
        ('{"to": "\\u0041nna", "why": "a \\"b\\""}', '{"to": "[PII]", "why": "a \\"b\\""}'),
        ('{"phone": 5550142, "size": 5550142}', '{"phone": "[PII]", "size": 5550142}'),
        ('{"first": ["Anna", "Ferrari"]}', '{"first": ["[PII]", "[PII]"]}'),
        ('{"Anna": {"x": [1.5e3, true, null, "call 555-1"]}}', '{"[PII]": {"x": [1.5e3, true, null, "call [PII]"]}}'),
        ('"Anna"', '"[PII]"'),
        ('{"ok": "\\ud800"}', '{"ok": "\\ud800"}'),
        ('{"to": "\\ud800 Anna"}', '{"to": "\\ud800 [PII]"}'),
        ("{}", "{}"),
        ('{"to": "Anna', '{"to": "[PII]'),
        ("Ask Anna. Now", "Ask [PII]. Now"),
    ],
)
def test_masked(text: str, want: str) -> None:
    assert sent(text)[0] == want


def test_json_that_breaks_off_loses_what_may_be_a_part_of_a_piece() -> None:
    def broken_off(text: str) -> str:
        json_filter = JsonFilter(Checker(Known(), Audit.model_validate("mask")))
        json_filter.feed(text)
        return "".join(part.text for part in json_filter.finish(cut=True))

    assert broken_off('{"to": "Anna", "call": "4111 11') == '{"to": "[PII]", "call": '
    assert broken_off("4111 1111") == broken_off("4111") == ""
    assert broken_off('{"to": "Anna"}') == '{"to": "[PII]"}', "it is whole"


def test_other_actions() -> None:
    text = '{"to": "Anna", "phone": 5550142}'
    counted, _, spans = sent(text, "count")
    assert counted == text
    assert [counted[span.start : span.end] for span in spans] == ["Anna", "5550142"]
    blocked, json_filter, _ = sent(text, "block")
    assert (blocked, json_filter.blocked) == ("", True)
    assert sent('{"to": "Anna', "block")[1].blocked
    replaced = json.loads(sent('{"to": "Anna", "cc": "Anna"}', "replace")[0])
    assert replaced["to"] == replaced["cc"] != "Anna", "one piece, one stand-in"


class Counted(Span):
    """Counts how often one is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Counted.looks += 1
        return super().__getattribute__(name)


class Counting:
    """Finds names, and what has the form of a number, which is treated apart."""

    name = "counting"

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        return [
            [Counted(m.start(), m.end(), "SSN" if m[0][0].isdigit() else "PERSON", m[0]) for m in NAMES.finditer(text)]
            for text in texts
        ]


@pytest.mark.parametrize("value", [["Anna", "555-1"] * 1000, "Anna 555-1 " * 1000])
def test_twice_as_much_personal_data_is_twice_the_work(value: Any) -> None:
    looks = []
    for share in (value[: len(value) // 2], value):
        json_filter = JsonFilter(Checker(Counting(), Audit.model_validate("mask")))
        json_filter.feed(json.dumps(share))
        Counted.looks = 0
        (checked,) = json_filter.finish()
        assert checked.text == re.sub("555-1", "[SSN]", re.sub("Anna", "[PERSON]", json.dumps(share)))
        assert all(checked.text[span.start : span.end] == f"[{span.label}]" for span in checked.spans)
        looks.append(Counted.looks)
    assert looks[1] < 3 * looks[0]


def test_a_detector_that_fails_withholds() -> None:
    json_filter = JsonFilter(Checker(Broken(), Audit.model_validate("mask")))
    json_filter.feed('{"to": "Anna"}')
    with pytest.raises(FilterError):
        json_filter.finish()


TEXTS = st.text(max_size=8) | st.sampled_from(["Anna Ferrari", 'say "Anna"', "555-1\\", "\n", "}{", "phone"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES, escapes=st.booleans(), spaces=st.sampled_from([None, 1]))
def test_json_stays_json_and_marks_lie_on_it(value: Any, escapes: bool, spaces: int | None) -> None:
    text = json.dumps(value, ensure_ascii=escapes, indent=spaces)
    masked, _, spans = sent(text)
    json.loads(masked)
    assert all(masked[span.start : span.end] == "[PII]" for span in spans)
    assert not re.search("Anna|Ferrari|555-[0-9]", masked)
    if not spans:
        assert masked == text, "what holds nothing personal is sent as it was written"
