"""What an endpoint refuses: the parameter is left out, unless the words are about something else."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from endpoint import ANSWER, running
from upstream import running_upstream, stream

from nescio.engines.base import Request, UnansweredError
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


def refuses(name: str, message: str) -> Callable[[dict[str, Any]], str | None]:
    return lambda asked: message if name in asked else None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default is.",
        ),
        ("seed", "Unrecognized request argument supplied: seed"),
        ("top_p", "[{'type': 'extra_forbidden', 'loc': ['body', 'top_p'], 'msg': 'Extra inputs are not permitted'}]"),
        ("stop", "stop is not supported by this model"),
        ("top_p", "Argument not supported on this model: top_p"),
        ("seed", "Unsupported parameter(s): `seed`"),
        ("temperature", "Setting 'temperature' is not currently supported"),
        ("seed", "Extra inputs are not permitted, field: 'seed', value: 0"),
    ],
)
def test_a_parameter_that_an_endpoint_refuses_is_left_out_and_said_once(
    name: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(refuse=refuses(name, message)) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        asked = [replace(ASKED, seed=seed, stop=("desk",)) for seed in range(4)]
        answers = engine.generate(asked)
        came = sum(endpoint.came.values())
        engine.generate(asked)
    assert len(answers) == 4
    assert sum(endpoint.came.values()) - came == 4, "the refused parameter was sent again"
    assert [record for record in caplog.messages if f"{name} is left out" in record and message in record] != []
    assert len(caplog.messages) == 1
    if name == "stop":
        assert answers[0].text == ANSWER[: ANSWER.index("desk")], "a stop text that can't be sent is cut here"


COOK = {"type": "function", "function": {"name": "cook", "parameters": {"properties": {"temperature": {}}}}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Invalid schema for function 'cook': temperature is not permitted here", None),
        ("Invalid schema for function 'cook': temperature is not permitted here", "tools[0].function.parameters"),
        ("Unsupported schema: the seed of all evil, and no temperature", None),
        ("Unknown model. Set the temperature of another one", "None"),
    ],
)
def test_a_word_in_a_message_about_something_else_is_no_parameter(message: str, param: str | None) -> None:
    body = json.dumps({"error": {"message": message, "param": param}})
    head = f"HTTP/1.1 400 X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with running_upstream(lambda asked: [(head + body).encode()]) as upstream:
        engine = OpenAIEngine("m", upstream.url, key_env=None)
        with pytest.raises(UnansweredError, match="HTTP 400"):
            engine.generate([replace(ASKED, tools=(COOK,))])
        upstream.script = lambda asked: [stream("Hello.")]
        assert engine.submit(replace(ASKED, tools=(COOK,))).answer.text == "Hello."
        assert upstream.asked[-1].keys() >= {"temperature", "seed"}, "for all others it is sent as before"


def cook(name: str = "cook", **parameters: Any) -> dict[str, Any]:
    function = {"name": name, "description": "Sets the temperature.", "parameters": parameters}
    return {"type": "function", "function": function}


def called(**function: str) -> dict[str, Any]:
    """A conversation with a call."""
    calls = [{"id": "1", "type": "function", "function": {"name": "cook", "arguments": "{}"} | function}]
    return {"prompt": [*ASKED.prompt, {"role": "assistant", "content": "", "tool_calls": calls}, *ASKED.prompt]}


REFUSED = "Unknown name: temperature"
SCHEMA = {"properties": {"oven": {"type": "object", "properties": {"temperature": {}}}}}


@pytest.mark.parametrize(
    ("fields", "is_name"),
    [
        ({"tools": (cook("temperature"),)}, True),
        ({"tools": (cook(properties={"oven temperature": {}}),)}, True),
        ({"tools": (cook(required=["temperature"]),)}, True),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "cook", "schema": SCHEMA}}}, True),
        (called(name="temperature"), True),
        (called(arguments='{"temperature": 180}'), True),
        ({"stop": ("temperature:",)}, True),
        ({"tools": (cook(properties={"oven": {"description": "Its temperature."}}),)}, False),
        (called(arguments='{"text": "the temperature"}'), False),
        (called(arguments="no JSON: temperature"), False),
    ],
)
def test_what_a_caller_names_himself_is_no_parameter(fields: dict[str, Any], is_name: bool) -> None:
    """What he only speaks of, as in a description, may be one."""
    with running(refuse=refuses("temperature", REFUSED)) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        if is_name:
            with pytest.raises(UnansweredError, match=REFUSED):
                engine.generate([replace(ASKED, **fields)])
        else:
            assert engine.generate([replace(ASKED, **fields)])[0].text == ANSWER


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("temperature", "temperature"),
        ("body.temperature", "temperature"),
        ("stream_options.include_usage", "stream_options"),
    ],
)
def test_the_parameter_that_a_refusal_points_to_is_left_out(param: str, name: str) -> None:
    body = json.dumps({"error": {"message": f"Unknown parameter: '{param}'.", "param": param}})
    head = f"HTTP/1.1 400 X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    refusal = (head + body).encode()
    with running_upstream(lambda asked: [refusal if name in asked else stream("Hello.")]) as upstream:
        assert OpenAIEngine("m", upstream.url, key_env=None).submit(ASKED).answer.text == "Hello."


def test_a_stream_ends_at_a_stop_text_that_an_endpoint_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """And what may become one waits: the pieces are those of the answer, and all of it where none comes."""
    with running(refuse=refuses("stop", "stop is not supported by this model")) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        for stop in ("desk", ANSWER[3:9], ANSWER[-2:], "desks", f"{ANSWER}!", "never"):
            stream = engine.submit(replace(ASKED, stop=(stop, f"{stop}?")))
            text = "".join(piece.text for piece in stream)
            whole = f"{ANSWER} "  # the test's stream ends in a space
            assert text == stream.answer.text == whole[: whole.find(stop) if stop in whole else None]
            assert stream.answer.finish == "stop"
    assert "stop is left out" in caplog.text and "not supported" not in caplog.text, "a server logs no upstream's words"


def test_max_tokens_is_sent_under_the_name_that_the_endpoint_wants(caplog: pytest.LogCaptureFixture) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    limits = []

    def refuse(asked: dict[str, Any]) -> str | None:
        limits.append(asked.get("max_completion_tokens"))
        return said if "max_tokens" in asked else None

    with running(refuse=refuse) as endpoint:
        assert OpenAIEngine("m", endpoint.url, key_env=None).generate([ASKED])[0].text == ANSWER
    assert limits == [None, 400], "the limit is never left out"
    assert len(caplog.messages) == 1
