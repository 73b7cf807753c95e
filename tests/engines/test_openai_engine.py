"""Answers from an endpoint, piece by piece."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint import ANSWER, running
from upstream import running_upstream

import nescio
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, Guidance
from nescio.engines.base import Request, UnansweredError
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


def test_a_stream_left_early_is_paid_no_further() -> None:
    with running(answer=f"{ANSWER} " * 20) as endpoint:
        pieces = OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)
        assert next(pieces) == "Somebody "
        pieces.close()  # type: ignore[attr-defined]
        assert endpoint.left.wait(5), "the endpoint went on answering"
        assert endpoint.answered == Counter()


def test_a_stream_is_the_whole_answer() -> None:
    with running() as endpoint:
        assert "".join(OpenAIEngine("m", endpoint.url, key_env=None).stream(ASKED)).split() == ANSWER.split()


@pytest.mark.parametrize(
    ("guidance", "sentence"),
    [(None, None), (Guidance(), PROTECT), (Guidance(positive="Hush."), "Hush."), (Guidance(positive=""), None)],
)
def test_the_protect_sentence_is_that_of_every_engine(guidance: Guidance | None, sentence: str | None) -> None:
    with running() as endpoint:
        OpenAIEngine("m", endpoint.url, key_env=None).generate([replace(ASKED, guidance=guidance)])
    ((sent, _),) = map(json.loads, endpoint.came)
    assert [turn["content"] for turn in sent if turn["role"] == "system"] == ([sentence] if sentence else [])


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


@pytest.mark.parametrize(
    ("message", "quoted"),
    [
        ("temperature must be at most 1", "temperature must be at most 1"),
        ("max_tokens is too large for sk-abc123", "max_tokens is too large for …"),
        ("cannot parse 'My name is Anna Ferrari'", "cannot parse '…'"),
    ],
)
def test_what_a_server_says_is_quoted_without_key_and_prompt(message: str, quoted: str) -> None:
    request = Request([{"role": "user", "content": "My name is Anna Ferrari"}])
    with running(refuse=lambda asked: message) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        with pytest.raises(UnansweredError, match=re.escape(f"HTTP 400 (it says: {quoted})")):
            engine.generate([request])
    assert sum(endpoint.came.values()) == 1, "a refused value is no refused parameter"


def test_tokens_are_estimated_where_an_endpoint_does_not_count_them(caplog: pytest.LogCaptureFixture) -> None:
    with running(counts=False) as endpoint:
        engine = OpenAIEngine("m", endpoint.url, key_env=None)
        answers = engine.generate([ASKED, replace(ASKED, seed=1)])
        streamed = engine.submit(ASKED).answer
    tokens = math.ceil(len(ANSWER) / 4)
    assert [(answer.prompt_tokens, answer.answer_tokens) for answer in answers] == [(3, tokens)] * 2
    assert abs((streamed.answer_tokens or 0) - tokens) <= 1  # the test's stream ends in a space
    assert len([message for message in caplog.messages if "estimated" in message]) == 1


def test_an_endpoint_refuses_by_name_what_it_cannot_do(tmp_path: Path) -> None:
    with OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env=None) as engine:
        with pytest.raises(NescioError, match="can't guide"):
            engine.chat([{"role": "user", "content": "Who?"}], nescio.Guidance(3.0))
        with pytest.raises(NescioError, match="no likelihoods"):
            engine.score("a", "b")
        with pytest.raises(NescioError, match="takes no adapters"):
            engine.load_adapter("x", tmp_path)
    assert engine.closed


def test_an_answer_in_parts_is_their_text() -> None:
    parts: Any = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "Hello "},
        {"type": "text", "text": "you"},
    ]
    with running(answer=parts) as endpoint:
        assert OpenAIEngine("m", endpoint.url, key_env=None).generate([ASKED])[0].text == "Hello you"


def test_json_under_another_name_is_read() -> None:
    body = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with running_upstream(lambda asked: [(head + body).encode()]) as upstream:
        assert OpenAIEngine("m", upstream.url, key_env=None).generate([ASKED])[0].text == "Hello"
