"""What callers get over HTTP: right answers, and a clear word for everything else."""

import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running import STAFF, Running
from starlette.testclient import TestClient

from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.engines.base import Request
from nescio.serve.app import create_app

USER = [{"role": "user", "content": "Hello"}]


def events(server: Running, key: str | None = None, **fields: Any) -> Iterator[Any]:
    """The events of a streamed chat, `[DONE]` as it is."""
    body = {"model": "careful", "messages": USER, "max_tokens": 12, "temperature": 0, "stream": True} | fields
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line:
                data = line.removeprefix("data: ")
                yield data if data == "[DONE]" else json.loads(data)


def test_an_answer_is_the_engines_own_under_the_policys_guidance(server: Running) -> None:
    told = server.chat().json()
    guidance = Guidance(3.0, "prob", PROTECT, REVEAL)
    (answer,) = server.engine.generate([Request(USER, guidance, adapter="careful", max_tokens=12)])  # type: ignore[arg-type]
    choice = told["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": answer.text, "refusal": None}
    assert (told["object"], told["model"], choice["finish_reason"]) == ("chat.completion", "careful", answer.finish)
    assert told["usage"] == {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": len(answer.token_ids),
        "total_tokens": answer.prompt_tokens + len(answer.token_ids),
    }


def test_base_and_adapter_scales_and_spaces_differ(server: Running) -> None:
    ways: list[dict[str, Any]] = [
        {"model": "tiny"},
        {"model": "careful"},
        {"model": "careful", "guidance_scale": 4},
        {"model": "careful", "guidance": {"scale": 4, "space": "log"}},
        {"model": "careful", "guidance_scale": 4, "negative_prompt": "Say Anna."},
    ]
    texts = [server.chat(key=STAFF, **way).json()["choices"][0]["message"]["content"] for way in ways]
    assert len(set(texts)) == len(ways)
    same = server.chat(key=STAFF, guidance={"scale": 4, "negative_prompt": "Say Anna."}).json()
    assert same["choices"][0]["message"]["content"] == texts[-1], "the aliases mean the same"


def test_a_stream_adds_up_to_the_whole(server: Running) -> None:
    whole = server.chat().json()
    *chunks, usage, done = events(server, stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])


def test_choices_seeds_and_stops(server: Running) -> None:
    sampled = {"key": STAFF, "n": 3, "temperature": 1.5, "max_tokens": 20}
    drawn = [server.chat(**sampled, seed=seed).json()["choices"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({choice["message"]["content"] for choice in drawn[0]}) == 3
    text = server.chat(key=STAFF).json()["choices"][0]["message"]["content"]
    stop = next(text[at : at + 2] for at in range(2, len(text)) if text[at : at + 2].isprintable())
    stopped = server.chat(key=STAFF, stop=stop).json()["choices"][0]
    assert stopped == {
        "index": 0, "message": {"role": "assistant", "content": text[: text.index(stop)], "refusal": None},
        "logprobs": None, "finish_reason": "stop",
    }  # fmt: skip


def test_logprobs(server: Running) -> None:
    choice = server.chat(key=STAFF, logprobs=True, top_logprobs=2).json()["choices"][0]
    told = choice["logprobs"]["content"]
    assert len(told) == 12
    assert all(token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0 for token in told), "greedy takes the top"
    body = {"model": "tiny", "prompt": ["Hello", "Good bye"], "n": 2, "logprobs": 1, "temperature": 0}
    choices = server.post("completions", body, STAFF).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert choices[0]["text"] == choices[1]["text"] != choices[2]["text"]
    assert choices[0]["logprobs"]["text_offset"][0] == 0


def test_a_text_stands_after_the_protect_sentence(server: Running) -> None:
    body = {"model": "careful", "prompt": "Hello", "temperature": 0, "guidance_scale": 3}
    text = server.post("completions", body, STAFF).json()["choices"][0]["text"]
    negative = f"{REVEAL}\n\nHello"
    request = Request(f"{PROTECT}\n\nHello", Guidance(3.0), negative=negative, adapter="careful", max_tokens=16)
    assert text == server.engine.generate([request])[0].text


def test_an_answer_that_nobody_bounded_fits_the_context(server: Running) -> None:
    long = server.chat("word " * 90, key=STAFF, max_tokens=..., stop=["e"])
    assert long.status_code == 200, long.text
    asked = server.chat("word " * 90, key=STAFF, max_tokens=512)
    assert (asked.status_code, asked.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("endpoint", "prompt", "length"),
    [
        ("chat/completions", "messages", "max_tokens"), ("chat/completions", "messages", "max_completion_tokens"),
        ("completions", "prompt", "max_tokens"), ("responses", "input", "max_output_tokens"),
    ],
)  # fmt: skip
def test_what_the_engine_refuses_names_its_field(server: Running, endpoint: str, prompt: str, length: str) -> None:
    def refused(text: str, **fields: Any) -> tuple[int, str, str]:
        said = [{"role": "user", "content": text}] if prompt == "messages" else text
        answer = server.post(endpoint, {"model": "tiny", prompt: said} | fields, STAFF)
        return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]

    assert refused("word " * 90, **{length: 512}) == (400, "context_length_exceeded", length)
    assert refused("word " * 2000, **{length: 1}) == (400, "context_length_exceeded", prompt)
    if endpoint != "responses":
        assert refused("Hello", logit_bias={"50256": 1}) == (400, "invalid_value", "logit_bias")
        guided = {"model": "careful", "guidance_scale": 2, "negative_prompt": "word " * 2000, length: 1}
        assert refused("Hello", **guided) == (400, "context_length_exceeded", None)


def test_a_guided_answer_fits_the_longer_of_its_branches(server: Running) -> None:
    long = server.chat(key=STAFF, max_tokens=..., stop=["e"], guidance_scale=2, negative_prompt="word " * 90)
    assert long.status_code == 200, long.text


@pytest.mark.torch_engine
def test_a_guided_answer_fits_the_cache_where_that_is_shorter_than_the_context(start: Any) -> None:
    server = start(cache_tokens=4 * 128)
    assert server.chat("word " * 10, key=STAFF, guidance_scale=2, max_tokens=..., stop=["e"]).status_code == 200
    asked = server.chat("word " * 10, key=STAFF, guidance_scale=2, max_tokens=128)
    assert (asked.status_code, asked.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "cache_tokens" in asked.json()["error"]["message"]
    server.stop()


def test_audits(server: Running) -> None:
    plain = server.chat(key=STAFF, model="tiny", max_tokens=60).json()["choices"][0]["message"]["content"]
    assert re.search("[A-Z]", plain)
    masked = server.chat(key="nescio-audited", model="tiny", max_tokens=60, mark_pii=True).json()["choices"][0]
    # The answer is cut by its length, so its last words are dropped: see test_output_filter.py.
    assert re.sub("[A-Z]+", "[PII]", plain).startswith(masked["message"]["content"])
    assert all(masked["message"]["content"][m["start"] : m["end"]] == "[PII]" for m in masked["pii"])
    blocked = server.chat(key="nescio-blocked", model="tiny", max_tokens=60).json()["choices"][0]
    assert blocked["finish_reason"] == "content_filter"
    assert not re.search("[A-Z]", blocked["message"]["content"])
    counted = re.findall(r'nescio_pii_total\{.*policy="blocked".*\} (.*)', httpx.get(f"{server.url}/metrics").text)
    assert counted == ["1.0"], "what is stopped is counted"
    marked = server.chat(key=STAFF, model="tiny", max_tokens=60, mark_pii=True).json()["choices"][0]
    assert marked["message"]["content"] == plain
    assert marked["pii"], "whoever asks gets marks, whatever the policy"


def test_an_audit_that_fails_withholds(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.detector, "broken", True)
    for key in ("nescio-audited", "nescio-blocked"):
        failed = server.chat(key=key, model="tiny")
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "audit_failed")
        opening, error = events(server, key, model="tiny")
        assert opening["choices"][0]["delta"]["content"] == ""
        assert error["error"]["code"] == "audit_failed"
    assert server.chat().status_code == 200, "who is not audited is not held up"


def test_models_and_the_callers_own_policy(server: Running) -> None:
    def get(path: str, key: str | None = None) -> httpx.Response:
        return httpx.get(server.url + path, headers={"Authorization": f"Bearer {key}"} if key else {})

    assert [model["id"] for model in get("/v1/models").json()["data"]] == ["careful"]
    assert [model["id"] for model in get("/v1/models", STAFF).json()["data"]] == ["careful", "tiny"]
    assert get("/v1/models/tiny", STAFF).json()["id"] == "tiny"
    assert get("/v1/models/tiny").status_code == 404
    mine = get("/v1/policy").json()
    assert (mine["name"], mine["models"], mine["guidance"]["scale"]["max"]) == ("default", ["careful"], 5)
    assert "sha256" not in json.dumps(mine)
    assert mine["public_switches"] == []
    assert (get("/healthz").text, get("/readyz").text) == ("ok\n", "ok\n")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"model": "gpt-4o"}, 404, "does not exist or you do not have access"),
        ({"model": ...}, 400, "model: field required"),
        ({"messages": []}, 400, "messages: "),
        ({"messages": USER * 10_000}, 400, "at most 1000"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages.0.content: input should be a valid string"),
        ({"messages": [{"role": "user", "content": "a\u0000b"}]}, 400, r"holds U\+0000"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}]}, 400,
            "messages.0.content: part 1 is of type 'image_url'; this server reads text parts only",
        ),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, 400, "context"),
        ({"max_tokens": 0}, 400, "max_tokens: "),
        ({"max_tokens": "many"}, 400, "max_tokens: "),
        ({"temperature": -1}, 400, "temperature: "),
        ({"top_p": 1.1}, 400, "top_p: "),
        ({"top_k": -2}, 400, "top_k: "),
        ({"n": True}, 400, "n: "),
        ({"guidance_scale": -2}, 400, "guidance_scale: "),
        ({"guidance": {"scale": 3, "sapce": "log"}}, 400, "unrecognized request argument supplied: guidance.sapce"),
        ({"guidance": {"scale": 3}, "guidance_scale": 3}, 400, "say the same"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "not known how this model writes calls"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 1}}}}, 400,
            "schema",
        ),
        ({"response_format": {"type": "xml"}}, 400, "response_format"),
        ({"logit_bias": {"50256": -100}}, 400, "logit_bias: the model has no token 50256; its ids end at"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias"), ({"logit_bias": {"1": 101}}, 400, "logit_bias"),
        ({"min_p": 1.5}, 400, "min_p"), ({"frequency_penalty": -3}, 400, "frequency_penalty"),
        ({"repetition_penalty": 2}, 400, "repetition_penalty: this server does not support"),
        ({"tool_choice": "required"}, 400, "tool_choice: required needs tools"),
        ({"messages": [*USER, {"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]}, 400, "tool_calls"),
        ({"presence_penalty": 3}, 400, "presence_penalty: "),
        ({"stop": ["a"] * 5}, 400, "stop: holds 5 texts; at most 4 are allowed"),
        ({"top_logprobs": 3}, 400, "needs logprobs"),
        ({"stream_options": {"include_usage": True}}, 400, "needs stream"),
        ({"logprobs": True, "mark_pii": True}, 400, "ask for one"),
    ],
)  # fmt: skip
def test_bad_bodies(server: Running, fields: dict[str, Any], status: int, said: str) -> None:
    refused = server.chat(key=STAFF, **fields)
    assert refused.status_code == status, refused.text
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert re.search(said, error["message"]), error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"", "required"),
        (b"[1]", "valid dictionary"),
        (b'{"model": "\xff"}', "parsing the body"),
        (b"[" * 100_000, "parsing the body|not JSON"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}], "model": "tiny"}', r"U\+D800"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "tiny", "guidance_scale": NaN}', "finite"),
        (b'{"messages": [{"role": "user", "content": "x"}], "model": "tiny", "guidance_scale": 1e999}', "finite"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "model": "tiny", "seed": ' + b"9" * 5000 + b"}",
            "pars|seed",
        ),
    ],
)
def test_bad_bytes(server: Running, content: bytes, said: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {STAFF}"}
    refused = httpx.post(f"{server.url}/v1/chat/completions", content=content, headers=headers)
    assert refused.status_code == 400, refused.text
    assert re.search(said, refused.json()["error"]["message"]), refused.text


def test_huge_bodies_wrong_paths_and_methods(server: Running) -> None:
    url = f"{server.url}/v1/chat/completions"
    huge = httpx.post(url, content=b"x" * (2**20 + 1), headers={"Content-Type": "application/json"})
    chunked = httpx.post(url, content=(b"x" * 2**16 for _ in range(20)), headers={"Content-Type": "application/json"})
    assert [answer.status_code for answer in (huge, chunked)] == [413, 413]
    assert "1048576 bytes" in chunked.json()["error"]["message"]
    assert httpx.get(f"{server.url}/v1/nothing").json()["error"]["code"] == "not_found"
    assert httpx.get(url).json()["error"]["code"] == "method_not_allowed"


def test_keys(server: Running) -> None:
    unknown = server.chat(key="nescio-nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_that_is_sent_another_way_is_not_the_policy_of_those_without_one(server: Running, start: Any) -> None:
    def status(url: str, **headers: str) -> int:
        return httpx.get(
            f"{url}/v1/models", headers={name.replace("_", "-"): sent for name, sent in headers.items()}
        ).status_code

    ways = ({"Authorization": STAFF}, {"Authorization": f"Token {STAFF}"}, {"api_key": STAFF})
    assert [status(server.url, **way) for way in ways] == [401] * 3
    assert status(server.url) == status(server.url, Authorization="Bearer") == 200, "no key was sent"
    assert status(server.url, Authorization=f"Bearer {STAFF}", api_key="x") == 200
    keyless = start(policies="policies: {default: {base_model: true, audit: off}}")
    assert [status(keyless.url, **way) for way in ways] == [200] * 3, "there are no keys"
    keyless.stop()


def test_traffic_without_a_key_is_refused_where_no_policy_is_its_own(start: Any) -> None:
    closed = start(policies=f"policies: {{staff: {{base_model: true, keys: ['sha256:{'0' * 64}']}}}}")
    assert closed.chat().status_code == 401
    closed.stop()


def test_limits_of_a_policy(start: Any) -> None:
    text = (
        "policies: {default: {adapters: [careful], audit: off, limits: {max_tokens: 40, tokens_per_minute: 100, %s}}}"
    )
    for limit, code in (("requests_per_minute: 1", "rate_limit"), ("concurrency: 9", "token_limit")):
        server = start(policies=text % limit)
        answers = [server.chat(max_tokens=40) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[1].json()["error"]["code"] == code
        assert int(answers[1].headers["retry-after"]) >= 1
        server.stop()


def test_an_answer_that_takes_too_long_is_cut(start: Any) -> None:
    server = start(policies="policies: {default: {adapters: [careful], audit: off, limits: {seconds: 0.3}}}")
    start_time = time.perf_counter()
    choice = server.chat(max_tokens=450).json()["choices"][0]
    assert choice["finish_reason"] in ("length", "stop")
    assert time.perf_counter() - start_time < 20
    server.stop()


def test_a_dead_engine_is_told_from_a_healthy_one(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    opened = events(server, max_tokens=64)
    next(opened)
    server.engine.close()
    assert list(opened)[-1]["error"]["code"] == "engine_down", "whoever waits is told"
    monkeypatch.setattr(server.gateway, "check_open", lambda: None)  # it may die between this check and the engine
    refused = server.chat()
    monkeypatch.undo()
    for answer in (refused, server.chat(), httpx.get(f"{server.url}/readyz")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_down")
        assert int(answer.headers["retry-after"]) >= 1
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    server.stop()


def test_metrics_tell_how_much_and_never_what(server: Running) -> None:
    server.chat("Zanzibar", key=STAFF)
    text = httpx.get(f"{server.url}/metrics").text
    for name in (
        'nescio_requests_total{endpoint="chat",guided="false",outcome="answered",policy="staff"}',
        'nescio_tokens_total{kind="answer",policy="staff"}', "nescio_queue_rows", "nescio_batch_fill",
        "nescio_time_to_first_token_seconds_bucket", "nescio_audit_seconds_bucket", "nescio_pii_total",
        "nescio_replays_total",
    ):  # fmt: skip
        assert name in text
    assert not re.search("Zanzibar|Hello|nescio-staff|sha256|127.0.0.1", text)


NO_EFFECT: dict[str, Any] = {
    "tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": None, "function_call": "none",
    "response_format": {"type": "text"}, "logit_bias": {}, "modalities": ["text"], "audio": None,
    "reasoning_effort": None, "verbosity": None, "presence_penalty": 0, "frequency_penalty": 0.0, "top_k": -1,
    "stop": None, "stream_options": None, "seed": None, "user": None, "metadata": None, "n": None, "logprobs": None,
    "top_logprobs": None, "max_completion_tokens": None, "store": None, "service_tier": None, "prediction": None,
}  # fmt: skip


def test_fields_that_change_nothing_are_taken(server: Running) -> None:
    plain = server.chat(key=STAFF, temperature=0).json()["choices"]
    assert server.chat(key=STAFF, temperature=0, **NO_EFFECT).json()["choices"] == plain
    for name, value in NO_EFFECT.items():
        for sent in (value, None):
            assert server.chat(key=STAFF, temperature=0, **{name: sent}).json()["choices"] == plain, name


def test_a_top_p_of_0_is_the_likeliest_token_and_top_k_counts(server: Running) -> None:
    greedy = server.chat(key=STAFF, temperature=0).json()["choices"]
    assert server.chat(key=STAFF, temperature=2, top_p=0).json()["choices"] == greedy
    assert server.chat(key=STAFF, temperature=2, top_k=1).json()["choices"] == greedy
    assert server.chat(key=STAFF, temperature=2, seed=1).json()["choices"] != greedy


def test_a_packed_body_is_named(server: Running) -> None:
    body = gzip.compress(json.dumps({"model": "careful", "messages": USER}).encode())
    headers = {"Authorization": f"Bearer {STAFF}", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused = httpx.post(f"{server.url}/v1/chat/completions", content=body, headers=headers)
    assert refused.status_code == 415
    assert refused.json()["error"]["message"] == "Content-Encoding: gzip is not read; send it plain"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_is_named(server: Running, kind: str | None) -> None:
    headers = {"Authorization": f"Bearer {STAFF}"} | ({} if kind is None else {"Content-Type": kind})
    refused = httpx.post(f"{server.url}/v1/chat/completions", content=b'{"model": "tiny"}', headers=headers)
    assert refused.status_code == 415
    assert refused.json()["error"]["message"] == f"Content-Type: is {kind or 'missing'}; send application/json"


def test_head_is_get_without_a_body(server: Running) -> None:
    for path in ("/healthz", "/v1/models"):
        got, headed = (httpx.request(method, server.url + path) for method in ("GET", "HEAD"))
        assert (headed.status_code, headed.content) == (got.status_code, b"")
        assert headed.headers["content-length"] == got.headers["content-length"]
    assert httpx.head(f"{server.url}/v1/chat/completions").status_code == 405


def test_browsers_may_read_answers_for_the_origins_that_are_named_alone(server: Running) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.get(f"{server.url}/v1/models", headers=asked).headers
    client = TestClient(create_app(server.gateway, 2**20, ["https://app.example"]))
    preflight = client.options("/v1/chat/completions", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, "https://app.example")
    other = client.get("/v1/models", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


def test_a_page_may_send_the_headers_of_openais_client_and_read_every_error(server: Running) -> None:
    client = TestClient(create_app(server.gateway, 100, ["https://app.example"]))
    preflight = client.options("/v1/chat/completions", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert "x-stainless-lang" in preflight.headers["access-control-allow-headers"]
    large = client.post("/v1/chat/completions", content=b"x" * 200, headers={"Origin": "https://app.example"})
    assert (large.status_code, large.headers["access-control-allow-origin"]) == (413, "https://app.example")


MORE_NO_EFFECT: list[dict[str, Any]] = [
    {"mark_pii": None}, {"stop": ""}, {"stop": ["", "\x09never\x09"]}, {"top_logprobs": 0}, {"logprobs": False},
    {"stream_options": {"include_usage": False}}, {"stream_options": {"include_usage": None}},
    {"min_tokens": 0, "ignore_eos": False, "skip_special_tokens": True, "length_penalty": 1.0, "stop_token_ids": []},
    {"chat_template_kwargs": {}, "add_generation_prompt": True, "use_beam_search": False, "typical_p": 1},
    {"max_completion_tokens": 12}, {"guidance": None}, {"guidance": {}}, {"guidance": {"scale": None}}, {"n": 1},
    {"metadata": {"a": "b"}}, {"store": False}, {"service_tier": "auto"}, {"prompt_cache_retention": "24h"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", "cache_control": {"type": "x"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", MORE_NO_EFFECT, ids=str)
def test_more_that_changes_nothing_is_taken(server: Running, fields: dict[str, Any]) -> None:
    taken = server.chat(key=STAFF, **fields)
    assert taken.status_code == 200, taken.text
    assert taken.json()["choices"] == server.chat(key=STAFF).json()["choices"]


def test_a_refusal_is_what_the_assistant_said(server: Running) -> None:
    def ask(**said: Any) -> httpx.Response:
        return server.chat(key=STAFF, messages=[*USER, {"role": "assistant"} | said, *USER])

    refused = ask(content=None, refusal="No.")
    assert refused.status_code == 200, refused.text
    assert refused.json()["choices"] == ask(content="No.", refusal=None).json()["choices"]
    assert "messages.1: content: field required" in ask(content=None).json()["error"]["message"]
    assert ask(content="Yes.", refusal="No.").status_code == 400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_completion_tokens": 5}, "max_tokens and max_completion_tokens say the same"),
        ({"stop": ["a", 3]}, "stop.1: input should be a valid string"),
        ({"stop": "x" * 300}, "stop: string should have at most 256"),
        ({"stop": 3}, "stop: input should be a valid string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "colour": 1}]}]},
            "unrecognized request argument supplied: messages.0.content.0.colour",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "messages.0.content.0.text: input should be a valid string",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0: content: field required"),
        ({"my field": 1}, "unrecognized request argument supplied: my field"),
        ({"min_tokens": 3}, "min_tokens: this server does not support the value"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
            "messages.0.tool_call_id: no call before it has this id",
        ),
    ],
)
def test_errors_name_the_field(server: Running, fields: dict[str, Any], message: str) -> None:
    refused = server.chat(key=STAFF, **fields)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]


def test_slashes_byte_order_marks_and_chunks(server: Running) -> None:
    plain = server.chat(key=STAFF).json()["choices"]
    body = {"model": "careful", "messages": USER, "max_tokens": 12, "temperature": 0}
    slashed = server.post("chat/completions/", body, STAFF)
    assert (slashed.status_code, slashed.json()["choices"]) == (200, plain), "without a redirect"
    assert httpx.get(f"{server.url}/v1/models/").json() == httpx.get(f"{server.url}/v1/models").json()
    headers = {"Authorization": f"Bearer {STAFF}", "Content-Type": "application/json; charset=utf-8", "Accept": "a/b"}
    content = b"\xef\xbb\xbf" + json.dumps(body).encode()
    for sent in (content, (content[at : at + 7] for at in range(0, len(content), 7))):
        answer = httpx.post(f"{server.url}/v1/chat/completions", content=sent, headers=headers, timeout=60)
        assert answer.json()["choices"] == plain


def test_fields_of_completions_that_change_nothing(server: Running) -> None:
    body = {"model": "tiny", "prompt": "Hello", "temperature": 0, "max_tokens": 4}
    plain = server.post("completions", body, STAFF).json()["choices"]
    for fields in ({"echo": False}, {"best_of": 1}, {"suffix": None}, {"suffix": ""}, {"logit_bias": None}, {"n": 1}):
        assert server.post("completions", body | fields, STAFF).json()["choices"] == plain, fields
    for fields in ({"echo": True}, {"best_of": 3}, {"suffix": "x"}):
        refused = server.post("completions", body | fields, STAFF)
        assert refused.status_code == 400
        assert f"{next(iter(fields))}: this server does not support the value" in refused.json()["error"]["message"]
