"""A policy that is tried over HTTP: what it would give, and nothing that the caller does not know."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import yaml
from running import Running
from says import Says

from nescio.serve.keys import hash_key
from nescio.serve.policy import Caller, GuidanceRules, Policies
from nescio.serve.trial import Trial, tried_policy

POLICIES = f"""
policies:
  support:
    keys: ['{hash_key("nescio-support")}']
    adapters: [careful]
    guidance: {{scale: {{default: 2, max: 4}}}}
    audit: {{types: {{card: block}}}}
"""
TOOLS = [{"type": "function", "function": {"name": "mail"}}]
REQUEST = {"model": "careful", "messages": [{"role": "user", "content": "Who is Anna?"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    running = Running(Says(), POLICIES)
    yield running
    running.stop()


def tried(server: Running, key: str = "nescio-support", **body: Any) -> httpx.Response:
    return server.post("policy/try", body, key)


def test_the_callers_own_policy_is_told_without_its_keys(server: Running) -> None:
    told = tried(server).json()
    assert told["policy"].startswith("adapters:\n- careful\n") and "sha256" not in told["policy"]
    assert "audit: personal data is masked; card ends the answer" in told["terms"]
    assert any("may be asked any number of times" in warning for warning in told["warnings"])
    assert (told["status"], told["lines"]) == (None, [])
    again = tried(server, policy=told["policy"]).json()
    assert again == told, "what is told can be sent back"


@pytest.mark.parametrize(
    ("policy", "more", "status", "said"),
    [
        (None, {}, 200, "guidance: scale 2; space prob; rows 2"),
        (None, {"guidance_scale": 9}, 403, "403 outside_policy: guidance.scale: "),
        ("{adapters: [careful], guidance: {scale: {default: 2, max: 9}}}", {"guidance_scale": 9}, 200, "scale 9"),
        ("{adapters: [careful], outside: pin}", {"guidance_scale": 9}, 200, "scale 3"),
        ("{adapters: [other]}", {}, 404, "404 model_not_found"),
        ("{base_model: true}", {"model": "tiny"}, 200, "model: tiny"),
        ("{base_model: true}", {"messages": [{"role": "user", "content": "<|im_end|>"}]}, 400, "400 control_token"),
        (None, {"messages": 3}, 400, "messages"),
        (None, {"tools": TOOLS}, 403, "(tools)"),
        ("{adapters: [careful], allow: {tools: true}}", {"tools": TOOLS}, 200, "tools: mail"),
    ],
)
def test_what_a_request_would_get(
    server: Running, policy: str | None, more: dict[str, Any], status: int, said: str
) -> None:
    told = tried(server, policy=policy, request=REQUEST | more).json()
    assert told["status"] == status
    assert any(said in line for line in told["lines"]), told["lines"]


def test_a_baked_adapter_needs_no_sentence(server: Running) -> None:
    own = Policies.model_validate(yaml.safe_load(POLICIES)).policies["support"]
    caller = Caller("support", own.model_copy(update={"guidance": GuidanceRules()}))
    served = replace(server.gateway.served, baked=frozenset({"careful"}))
    lines = tried_policy(Trial(request=REQUEST), caller, served).lines
    assert "guidance: scale 1; space prob; rows 1" in lines and "protect: ''" in lines
    assert not any(line.startswith("system") for line in lines), "the prompt is the caller's alone"


def test_no_model_and_no_detector_is_asked(server: Running) -> None:
    server.detector.broken = True
    assert tried(server, policy="{base_model: true, audit_requests: block}", request=REQUEST).status_code == 200
    assert server.engine.asked == []  # type: ignore[attr-defined]
    server.detector.broken = False


BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{name}: &{name} [*{last}, *{last}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("adapters: careful", "policy:1: adapters"),
        ("adapters: [careful]\nscale: 3", "policy:2: scale"),
        ("{}", "names no model"),
        ("[", "policy:1: not YAML"),
        ("3", "not a mapping"),
        ("a: 1\na: 2", "given twice"),
        ("a: !!python/object:os.system x", "not YAML"),
        (BOMB, "has an alias"),
        ("[" * 10_000, "more than 200 brackets"),
        ("- " * 5_000, "nested too deep"),
        ("\0", "not YAML"),
        ("adapters: [careful]\nlimits: {max_tokens: 2001-99-99}", "policy:2: not YAML (a value reads as timestamp"),
        ('adapters: [careful]\nguidance: {protect: "\\ud800"}', "policy:2: not YAML (a value reads as str"),
        (f"limits: {{max_tokens: 1{':9' * 4_000}}}", "policy:1: not YAML (a value reads as int"),
    ],
)
def test_a_wrong_policy_is_a_400_that_says_why(server: Running, policy: str, said: str) -> None:
    told = tried(server, policy=policy)
    assert told.status_code == 400 and said in told.json()["error"]["message"], told.text
    assert told.json()["error"]["code"] == "invalid_policy"


def test_other_bodies_are_refused_too(server: Running) -> None:
    assert tried(server, key="nescio-other").status_code == 401
    assert tried(server, policy="x" * 30_000).status_code == 400
    assert tried(server, polcy="{}").status_code == 400
    for depth in (500, 900, 5_000):
        deep = f'{{"request": {{"messages": {"[" * depth}{"]" * depth}}}}}'
        headers = {"Authorization": "Bearer nescio-support", "Content-Type": "application/json"}
        got = httpx.post(f"{server.url}/v1/policy/try", content=deep, headers=headers, timeout=60)
        assert got.status_code in (200, 400) and got.json().get("status") in (None, 400), depth
