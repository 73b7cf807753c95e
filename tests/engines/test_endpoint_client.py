"""How an endpoint is asked: who hangs up, what is closed, and what is no answer."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from endpoint import ANSWER, running
from upstream import error, running_upstream, stream

from nescio.core.errors import NescioError
from nescio.engines.base import EndpointError, EngineClosedError, Request, UnansweredError
from nescio.engines.endpoint_client import RefusedError
from nescio.engines.openai_engine import OpenAIEngine

ASKED = Request([{"role": "user", "content": "Who?"}], max_tokens=400)


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """An endpoint that takes a request and never answers; the event is set when the caller has hung up."""
    left = threading.Event()

    def take(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while connection.recv(65536):
                pass
        left.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=take, args=(server,), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1", left


def test_an_endpoint_that_has_not_begun_to_answer_is_hung_up_on(silent: tuple[str, threading.Event]) -> None:
    url, left = silent
    with OpenAIEngine("m", url, key_env=None) as engine:
        asking = engine.submit(ASKED)
        time.sleep(0.2)
        assert not left.is_set()
        asking.cancel()
        assert asking.answer.finish == "cancelled"
        assert left.wait(5), "the endpoint was left to compute an answer that nobody reads"


def test_a_closed_engine_leaves_nobody_waiting(silent: tuple[str, threading.Event]) -> None:
    url, left = silent
    engine = OpenAIEngine("m", url, key_env=None)
    asking = [engine.submit(ASKED)]
    time.sleep(0.2)
    asking.append(engine.submit(ASKED))  # has not begun when the engine ends
    engine.close()
    for each in asking:
        with pytest.raises(EngineClosedError):
            next(each)
    assert left.wait(5) and engine.closed
    with pytest.raises(EngineClosedError):
        engine.submit(ASKED)


@pytest.mark.parametrize("end", ["pass", "del engine", "engine.close(); engine.close()", "engine.submit(asked)"])
def test_a_process_that_asked_an_endpoint_ends_quietly(end: str) -> None:
    script = (
        "import logging, sys, nescio\nlogging.disable()\nfrom nescio.engines.openai_engine import OpenAIEngine\n"
        "engine = OpenAIEngine('m', sys.argv[1], None)\n"
        "asked = nescio.Request([{'role': 'user', 'content': 'Who?'}])\n"
        f"engine.submit(asked).answer\n{end}\n"
    )
    with running() as endpoint:
        command = [sys.executable, "-c", script, endpoint.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_work_that_comes_while_an_engine_closes_ends(silent: tuple[str, threading.Event]) -> None:
    url, _ = silent

    def ask(engine: OpenAIEngine) -> None:
        while True:
            next(engine.submit(ASKED), None)

    for _ in range(20):
        engine = OpenAIEngine("m", url, key_env=None)
        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask, engine) for _ in range(4)]
            time.sleep(0.01)
            engine.close()
            assert all(isinstance(each.exception(20), EngineClosedError) for each in asking)


def test_generating_on_an_engine_that_is_closed_is_an_error_of_ours(silent: tuple[str, threading.Event]) -> None:
    url, _ = silent
    engine = OpenAIEngine("m", url, key_env=None)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(engine.generate, [ASKED])
        time.sleep(0.2)
        engine.close()
        assert isinstance(asking.exception(20), EngineClosedError)


def _asked_in_a_child(engine: OpenAIEngine, told: Any) -> None:
    try:
        engine.submit(ASKED)
    except EngineClosedError as error:
        told.put(str(error))


def test_a_forked_process_is_told_to_open_its_own() -> None:
    fork = get_context("fork")
    told = fork.Queue()
    with running() as endpoint, OpenAIEngine("m", endpoint.url, key_env=None) as engine:
        child = fork.Process(target=_asked_in_a_child, args=(engine, told))
        child.start()
        assert "opened in another process" in told.get(timeout=20)
        child.join(20)
        assert engine.submit(ASKED).answer.text, "the parent's goes on"


@pytest.mark.parametrize("sent", [b"HELLO\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + 9_000 * b"y" + b"\r\n\r\n", b""])
def test_what_is_no_http_is_an_endpoint_out_of_reach(sent: bytes) -> None:
    with (
        running_upstream(lambda asked: [sent]) as upstream,
        OpenAIEngine("m", upstream.url, key_env=None, retries=0) as engine,
    ):
        with pytest.raises(UnansweredError, match="cannot be reached"):
            engine.generate([ASKED])
        with pytest.raises(UnansweredError, match="cannot be reached"):
            next(engine.submit(ASKED))


def test_a_login_in_the_address_is_sent() -> None:
    with running() as endpoint:
        address = endpoint.url.replace("http://", "http://ann:p%40ss@")
        with OpenAIEngine("m", address, key_env=None) as engine:
            assert engine.generate([ASKED])[0].text == ANSWER
    assert endpoint.keys == {f"Basic {b64encode(b'ann:p@ss').decode()}"}


@pytest.mark.parametrize(
    "address",
    ["localhost:8000/v1", "http://", "http://ann:secret@[::1/v1", "http://x:99999/v1", "http://x:port/v1", "ftp://x"],
)
def test_what_is_no_address_is_an_error_of_one_line(address: str) -> None:
    with pytest.raises(NescioError, match=r"^base_url: must read http://host:port/v1") as caught:
        OpenAIEngine("m", address, key_env=None)
    assert "secret" not in str(caught.value)


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with running() as endpoint, OpenAIEngine("m", endpoint.url, key_env=None) as engine:
        assert engine.generate([ASKED])[0].text == ANSWER, "it is not for this address"
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(NescioError, match=r"^all_proxy: no SOCKS proxy can be used"):
        OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env=None)


def test_a_key_with_a_line_break_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "sk-abc\n ")
    assert OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env="KEY")
    monkeypatch.setenv("KEY", "sk-abc\nsk-def")
    with pytest.raises(NescioError, match=r"^m: KEY holds a space or a line break"):
        OpenAIEngine("m", "http://127.0.0.1:9/v1", key_env="KEY")


def test_an_error_that_is_read_slowly_holds_no_other_answer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def read(*given: Any) -> str:
        assert answered.wait(20), "the other answer waits for this"
        return "too long"

    def refuse(asked: dict[str, Any]) -> str | None:
        return "too long" if len(asked["messages"][0]["content"]) > 100 else None

    with running(refuse=refuse) as endpoint, OpenAIEngine("m", endpoint.url, key_env=None, retries=0) as engine:
        monkeypatch.setattr("nescio.engines.openai_engine.quotable_message", read)
        refused = engine.submit(Request([{"role": "user", "content": "word " * 100}], max_tokens=400))
        assert engine.submit(ASKED).answer.text.strip() == ANSWER
        answered.set()
        with pytest.raises(UnansweredError, match="HTTP 400"):
            next(refused)


@pytest.mark.parametrize(
    ("headers", "seconds", "passes"),
    [
        ({}, None, True),
        ({"retry-after": "2"}, 2, True),
        ({"retry-after": "121"}, 121, False),
        ({"retry-after": "5", "retry-after-ms": "250"}, 0.25, True),
        ({"retry-after": "inf"}, 86_400, False),
        ({"retry-after": "1e400"}, 86_400, False),
        ({"retry-after": "nan"}, None, True),
        ({"retry-after": "-1"}, None, True),
        ({"retry-after": "soon"}, None, True),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None, True),
        ({"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}, None, True),
        ({"x-should-retry": "false"}, None, False),
    ],
)
def test_a_server_says_when_to_ask_again(headers: dict[str, str], seconds: float | None, passes: bool) -> None:
    refused = RefusedError(429, b"{}", headers)
    assert (refused.retry_after, refused.may_pass) == (seconds, passes)


def test_a_server_says_when_to_ask_again_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < (RefusedError(503, b"", {"retry-after": later}).retry_after or 0) <= 30


def test_only_what_may_pass_is_asked_again() -> None:
    passing = [status for status in range(300, 600) if RefusedError(status, b"", {}).may_pass]
    assert passing == [408, 409, 429, *range(500, 600)]
    assert RefusedError(400, b"", {"x-should-retry": "true"}).may_pass


def test_a_prompt_goes_where_it_was_sent_and_nowhere_else() -> None:
    with running_upstream() as other, running_upstream() as upstream:
        upstream.script = lambda asked: [error(307, "moved", Location=f"{other.url}/chat/completions")]
        with OpenAIEngine("m", upstream.url, key_env=None) as engine:
            with pytest.raises(EndpointError, match="redirects to another address; give the right base_url"):
                engine.generate([ASKED])
            with pytest.raises(EndpointError, match="redirects"):
                next(engine.submit(ASKED))
        assert (len(upstream.asked), other.asked) == (2, [])


def test_a_refusal_that_is_cut_off_is_a_refusal() -> None:
    head = b"HTTP/1.1 401 X\r\nContent-Length: 100\r\n\r\n{"
    with running_upstream(lambda asked: [head]) as upstream, OpenAIEngine("m", upstream.url, key_env=None) as engine:
        with pytest.raises(EndpointError, match="it wants a key"):
            engine.generate([ASKED])
        assert len(upstream.asked) == 1


def test_an_answer_that_never_ends_is_none() -> None:
    head = b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n"
    with (
        running_upstream(lambda asked: [head, *[b" ", 0.1] * 200]) as upstream,
        OpenAIEngine("m", upstream.url, key_env=None, timeout=0.3, retries=0) as engine,
    ):
        start = time.monotonic()
        with pytest.raises(UnansweredError, match=r"no answer in 0\.3 s"):
            engine.generate([ASKED])
        assert time.monotonic() - start < 10


def test_a_proxy_of_the_environment_is_used_but_where_it_says_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    with running_upstream() as proxy:
        address = proxy.url.removesuffix("/v1").replace("http://", "http://ann:pw@")
        monkeypatch.setenv("HTTP_PROXY", address)
        with OpenAIEngine("m", "http://models.invalid:8000/v1", key_env=None, retries=0) as engine:
            assert engine.submit(ASKED).answer.text == "Hello there."
        assert proxy.headers["host"] == "models.invalid:8000"
        assert proxy.headers["proxy-authorization"] == f"Basic {b64encode(b'ann:pw').decode()}"
        monkeypatch.setenv("NO_PROXY", "models.invalid:8000")
        with (
            OpenAIEngine("m", "http://models.invalid:8000/v1", key_env=None, retries=0) as engine,
            pytest.raises(UnansweredError, match="cannot be reached"),
        ):
            engine.generate([ASKED])
        assert len(proxy.asked) == 1


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "key.pem", folder / "certificate.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    files[0].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    files[1].write_bytes(signed.public_bytes(pem))
    return files


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running_upstream(lambda asked: [stream("Hello ", "there.")]) as upstream:
        upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
        address = f"https://localhost:{upstream.server_address[1]}/v1"
        with (
            OpenAIEngine("m", address, key_env=None) as engine,
            pytest.raises(UnansweredError, match="its certificate is not trusted; name the file"),
        ):
            engine.generate([ASKED])
        assert upstream.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with OpenAIEngine("m", address, key_env=None) as engine:
            assert engine.submit(ASKED).answer.text == "Hello there."
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(NescioError, match=r"^SSL_CERT_FILE: .*none\.pem is not a certificate file"):
        OpenAIEngine("m", address, key_env=None)
