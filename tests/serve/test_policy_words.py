"""`nescio policy check` and `try`: what a policy file lets callers do, in words, without a model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from nescio.cli.main import app
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT
from nescio.serve.dry_run import tried
from nescio.serve.keys import hash_key
from nescio.serve.policy import Policies
from nescio.serve.policy_words import described, holes

TIGHT: dict[str, Any] = {
    "adapters": ["careful"],
    "keys": [hash_key("a")],
    "limits": {"requests_per_minute": 10},
}
SCALE = {"default": 3, "min": 0.5, "max": 5}


def policies(**names: dict[str, Any]) -> Policies:
    return Policies.model_validate({"policies": names})


def test_a_tight_policy_has_no_holes() -> None:
    assert list(holes(policies(staff=TIGHT))) == []


@pytest.mark.parametrize(
    ("change", "hole"),
    [
        ({"guidance": {"scale": SCALE}}, "guidance.scale: from 0.5; below 1"),
        ({"guidance": {"scale": 1}}, "guidance.scale: 1 is the protect sentence alone"),
        ({"guidance": {"protect": ""}}, "guidance.protect"),
        ({"guidance": {"plausibility": {"default": 0, "max": 1}}}, "guidance.plausibility"),
        ({"allow": {"negative_prompt": True}}, "allow.negative_prompt"),
        ({"allow": {"prefill": True}}, "allow.prefill"),
        ({"allow": {"completions": True}}, "allow.completions"),
        ({"allow": {"logprobs": True}, "audit": "off"}, "allow.logprobs"),
        ({"audit": "off"}, "audit: answers leave unchecked"),
        ({"audit": "allow"}, "audit: answers leave unchecked"),
        ({"audit": {"default": "allow", "types": {"person": "mask"}}}, "audit.default: allow sends every type"),
        ({"audit": {"types": {"organisation": "allow"}}}, "audit.types: organisation is sent"),
        ({"limits": {}}, "limits: a question may be asked any number of times"),
        ({"keys": [{"hash": hash_key("a"), "expires": "2020-01-01", "name": "old"}]}, "keys.0: old has expired"),
    ],
)
def test_each_hole_is_found(change: dict[str, Any], hole: str) -> None:
    assert any(warning.startswith(f"policies.staff.{hole}") for warning in holes(policies(staff=TIGHT | change)))


def test_holes_of_callers_without_a_key() -> None:
    found = list(holes(policies(default={"base_model": True, "allow": {"system_message": True}})))
    assert found[0].startswith("no policy has a key")
    assert [hole.split(":")[0] for hole in found[1:3]] == [
        "policies.default.base_model",
        "policies.default.allow.system_message",
    ]


def test_a_policy_in_words() -> None:
    audit = {"default": "mask", "types": {"person": "replace", "US_SSN": "block"}, "allow": ["Acme"]}
    said = "\n".join(described(policies(default=TIGHT | {"keys": []}, staff=TIGHT | {"audit": audit})))
    for words in (
        "default: requests without a key",
        "staff: 1 key",
        f"key        {hash_key('a')[:15]}…",
        "personal data is masked; person is replaced by a stand-in; US_SSN ends the answer; 1 text never counted",
        "scale 3; space prob",
        "adaptive false; a baked adapter: none",
        "a request 1024 tokens, 1 answer, 300 s; 10 requests a minute",
    ):
        assert words in said


def run(tmp_path: Path, body: Any, *options: str, expires: str = "2999-01-01") -> tuple[int, str]:
    held = [{"hash": hash_key("a"), "expires": expires}]
    content = {"policies": {"default": {"adapters": ["careful"]}, "staff": TIGHT | {"keys": held, "base_model": True}}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "r.json").write_text(body if isinstance(body, str) else json.dumps(body))
    command = ["policy", "try", str(tmp_path / "p.yaml"), str(tmp_path / "r.json"), *options]
    told = CliRunner().invoke(app, command, env={"KEY": "a", "WRONG": "b"})
    if isinstance(told.exception, NescioError):
        raise told.exception
    return told.exit_code, told.output


ASK = {"model": "careful", "messages": [{"role": "user", "content": "Who?"}]}


def test_what_is_answered(tmp_path: Path) -> None:
    code, said = run(tmp_path, ASK)
    assert code == 0
    for words in ("answered under policy default", "scale 3; space prob; rows 2", f'system     "{PROTECT}"', '"Who?"'):
        assert words in said
    assert "a baked adapter: one row, without guidance" in said
    assert "baked" not in run(tmp_path, ASK | {"model": "llama"}, "--policy", "staff")[1]
    assert run(tmp_path, ASK | {"model": "llama"}, "--policy", "staff")[0] == 0, "any other name is the base model"
    assert run(tmp_path, ASK | {"model": "llama"}, "--policy", "staff", "--model", "tiny")[0] == 1
    assert "under policy staff" in run(tmp_path, ASK, "--key-env", "KEY")[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"guidance_scale": 1}, "403 outside_policy: guidance.scale: this key's policy allows 3"),
        ({"model": "llama"}, "404 model_not_found (model): "),
        ({"temperature": "hot"}, "400 invalid_value: temperature: "),
        ({"colour": 1}, "400 unknown_parameter (colour): "),
        ({"messages": ...}, "400 invalid_value: messages: field required"),
        ({"messages": ..., "prompt": "Who"}, "403 outside_policy (prompt): "),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    code, told = run(tmp_path, {key: value for key, value in (ASK | change).items() if value is not ...})
    assert (code, told.startswith(said)) == (1, True), told


def test_tools_that_are_allowed() -> None:
    every = policies(default={"base_model": True, "allow": {"tools": True}})
    asked = ASK | {"tools": [{"type": "function", "function": {"name": "mail"}}]}
    verdict = tried(every, every.caller(None), asked, "careful")
    assert verdict.status == 200 and "  tools      mail" in verdict.lines


def test_keys_that_do_not_open(tmp_path: Path) -> None:
    assert run(tmp_path, ASK, "--key-env", "WRONG") == (1, "401 invalid_api_key: this API key is unknown\n")
    code, told = run(tmp_path, ASK, "--key-env", "KEY", expires="2020-01-01")
    assert (code, "expired" in told) == (1, True)


def test_what_the_audit_lets_through(tmp_path: Path) -> None:
    _, said = run(tmp_path, ASK, "--answer", "My name is Anna Ferrari. I moved to Geneva in May. It rains.")
    assert '"My name is [PERSON]. I moved to [GPE] in May. It rains."' in said


def test_the_audits_are_those_of_the_server(tmp_path: Path) -> None:
    """The request's own; the answer's with the question before it; stand-ins are put back; JSON stays JSON."""

    def verdict(body: dict[str, Any], answer: str | None = None, **policy: Any) -> str:
        detector = {"detector": "regex", "count": ["account", "email"]}
        every = Policies.model_validate(detector | {"policies": {"default": {"base_model": True, **policy}}})
        body = {"model": "m"} | body
        return "\n".join(tried(every, every.caller(None), body, "m", answer).lines)

    def asks(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}]}

    mail = asks("write to anna@example.org")
    assert "400 personal_data" in verdict(mail, audit_requests="block")
    assert "write to [EMAIL" in verdict(mail, audit_requests="mask")
    assert "anna@example.org" not in verdict(mail, audit_requests="replace")
    assert "81723645" not in verdict(asks("What is her account number?"), "81723645")
    json_answer = verdict(
        asks("Who?") | {"response_format": {"type": "json_object"}},
        '{"account number": 81723645}',
        allow={"response_format": True},
    )
    assert re.search(r'number\\": \\"\[\w+\]\\"}', json_answer), json_answer


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        ("{", (), r"r\.json:1: is not JSON"),
        ("[]", (), "is no JSON object"),
        (ASK, ("--policy", "other"), "--policy other: unknown; .* has default, staff"),
        (ASK, ("--key-env", "MISSING"), "--key-env MISSING: is not set"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, body: Any, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(NescioError, match=message):
        run(tmp_path, body, *options)


def test_check_prints_both(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"policies": {"default": {"adapters": ["any"]}}}))
    told = CliRunner().invoke(app, ["policy", "check", str(tmp_path / "p.yaml")])
    assert told.exit_code == 0
    assert told.output.startswith("default: everybody; no policy has a key")
    assert "\n2 warnings\n  no policy has a key" in told.output
