"""Answers that match a JSON schema, guided or not."""

import json
from typing import Any

import pytest
import torch

pytest.importorskip("llguidance", reason="needs nescio[structured]")

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.engines.answer_schema import schema_of
from nescio.engines.base import Request
from nescio.engines.decode.grammar import Grammars
from nescio.engines.errors import FieldError

USER: list[Any] = [{"role": "user", "content": "Who?"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Anna", "Tom"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "mail",
        "parameters": {
            "type": "object",
            "properties": {"to": {"$ref": "#/$defs/Who"}},
            "required": ["to"],
            "additionalProperties": False,
            "$defs": {"Who": {"enum": ["Anna", "Tom"]}},
        },
    },
}
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def wanted(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


WAYS = [None, Guidance(3.0, "prob"), Guidance(3.0, "log"), Guidance(8.0, "prob", plausibility=0.5, adaptive=True)]


@pytest.mark.parametrize("guidance", WAYS)
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_an_answer_matches_its_schema(tiny: Any, guidance: Guidance | None, temperature: float) -> None:
    with tiny() as engine:
        asked = [
            Request(USER, guidance, response_format=wanted(SCHEMA), temperature=temperature, seed=seed, max_tokens=80)
            for seed in range(3)
        ]
        for answer in engine.generate([*asked, Request(USER, guidance, max_tokens=4)])[:-1]:
            value = json.loads(answer.text)
            assert value.keys() == {"name", "age"} and value["name"] in ("Anna", "Tom") and 0 <= value["age"] <= 99
            assert answer.finish == "stop"


@pytest.mark.parametrize("guidance", WAYS)
def test_what_the_grammar_forbids_has_no_probability(tiny: Any, guidance: Guidance | None) -> None:
    with tiny() as engine:
        request = Request(USER, guidance, response_format=wanted(SCHEMA), max_tokens=80, logprobs=320)
        answer = engine.generate([request])[0]
        matcher = Grammars(engine.tokenizer, engine._end_ids).matcher(SCHEMA)
        assert answer.logprobs is not None
        for told in answer.logprobs:
            allowed = set(matcher.allowed(320).nonzero()[:, 0].tolist())
            likely = {token.token_id: token.logprob for token in told.top}
            assert all(logprob == -torch.inf for token, logprob in likely.items() if token not in allowed)
            mass = torch.tensor([likely[token] for token in allowed]).exp().sum()
            assert torch.isclose(mass, torch.tensor(1.0), atol=1e-4)
            matcher.take(told.token_id)


def test_guidance_is_that_of_the_constrained_branches(tiny: Any) -> None:
    """The first token against the two branches masked by hand."""
    from nescio.core.guide import guide

    schema = {"enum": ["Anna", "Tom", "Geneva"]}
    with tiny() as engine:
        how = Guidance(3.0, "prob")
        request = Request(USER, how, response_format=wanted(schema), max_tokens=8, logprobs=320)
        first = (engine.generate([request])[0].logprobs or [])[1]  # the quotation mark comes first
        texts = engine.branches(USER, how)
        ids = [engine.tokenizer(text + '"').input_ids for text in texts]
        logits = [engine.model(torch.tensor([each])).logits[0, -1] for each in ids]
        matcher = Grammars(engine.tokenizer, engine._end_ids).matcher(schema)
        matcher.take(engine.tokenizer('"').input_ids[0])
        forbidden = ~matcher.allowed(320)
        masked = [each.masked_fill(forbidden, -torch.inf)[None] for each in logits]
        told = {token.token_id: token.logprob for token in first.top}
        for token, logprob in enumerate(guide(*masked, how)[0].tolist()):
            assert told[token] == pytest.approx(logprob, abs=1e-3)


def test_any_object(tiny: Any) -> None:
    with tiny() as engine:
        asked = [
            Request(USER, response_format={"type": "json_object"}, temperature=1.0, seed=seed, max_tokens=60)
            for seed in range(4)
        ]
        for answer in engine.generate(asked):
            assert answer.text.startswith("{")
            if answer.finish == "stop":
                assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "mail"}}])
def test_a_tool_that_must_be_called_is_called_with_valid_arguments(
    make_model: Any, make_tokenizer: Any, choice: Any
) -> None:
    from nescio.engines.torch_engine import TorchEngine

    other = {"type": "function", "function": {"name": "look_up"}}
    with TorchEngine(make_model("llama"), make_tokenizer(TEMPLATE)) as engine:
        tools = (TOOL, other) if choice == "required" else (other, TOOL)
        request = Request(
            USER, Guidance(3.0), tools=tools, tool_choice=choice, parallel_tool_calls=False, max_tokens=120
        )
        (call,) = json.loads(engine.generate([request])[0].text)
        assert call["name"] in ("mail", "look_up") if choice == "required" else call["name"] == "mail"
        if call["name"] == "mail":
            assert call["arguments"]["to"] in ("Anna", "Tom")


def test_definitions_of_two_tools_do_not_meet() -> None:
    other = json.loads(json.dumps(TOOL).replace('"mail"', '"post"').replace('"Anna", "Tom"', '"Eve"'))
    schema = schema_of(Request(USER, tools=(TOOL, other), tool_choice="required"))
    assert schema is not None
    assert schema["$defs"] == {"mail.Who": {"enum": ["Anna", "Tom"]}, "post.Who": {"enum": ["Eve"]}}
    assert [each["properties"]["arguments"]["properties"]["to"] for each in schema["items"]["anyOf"]] == [
        {"$ref": "#/$defs/mail.Who"}, {"$ref": "#/$defs/post.Who"},
    ]  # fmt: skip
    assert schema_of(Request(USER, tools=(TOOL,))) is None


def test_a_schema_that_is_too_big_is_refused_by_name(chatml: Any) -> None:
    many = {"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(600)}}
    with pytest.raises(FieldError, match=r"can't be followed any further: .* items") as refused:
        Grammars(chatml, [chatml.eos_token_id]).matcher(many, "tools")
    assert refused.value.field == "tools"


@pytest.mark.parametrize(
    "schema",
    [{"type": "banana"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "(?<=a)b"}, {"not": {}}, {"anyOf": []},
     {"minimum": "x"}, {"type": "object", "properties": {"a": False}, "required": ["a"]}],
)  # fmt: skip
def test_a_schema_that_the_library_refuses_is_an_error_in_one_line(tiny: Any, schema: Any) -> None:
    with tiny() as engine:
        with pytest.raises(NescioError, match="the schema is refused: ") as refused:
            engine.generate([Request(USER, response_format=wanted(schema))])
        assert "\n" not in str(refused.value)
        assert engine.chat(USER, max_tokens=2) is not None
