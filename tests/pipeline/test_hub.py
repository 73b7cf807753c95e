"""Pushing an export: to a hub on loopback that speaks as much of the HTTP API as huggingface_hub asks for."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from nescio.core.errors import NescioError
from nescio.pipeline import hub

REPO = "me/mine"


class FakeHub(ThreadingHTTPServer):
    """Repositories and their files, in memory; one token is known."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.refuses_commits = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            self._send(200, {"type": "user", "name": "me"})
        elif self.path.startswith("/api/models/") and (repo := self.path.removeprefix("/api/models/")) in (
            self.server.private
        ):
            card = {"cardData": {"license": "mit"}} if repo == "me/base" else {}
            self._send(200, {"id": repo, "private": self.server.private[repo], "siblings": [], "tags": []} | card)
        else:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer hf_known":
            self._send(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            owner, _, name = f"{asked.get('organization') or 'me'}/{asked['name']}".rpartition("/")
            self.server.private.setdefault(
                f"{owner}/{name}", asked.get("visibility", "") == "private" or asked.get("private", False)
            )
            self._send(200, {"url": f"{self.server.url}/{owner}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif self.path == f"/api/models/{REPO}/preupload/main":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".gguf", ".safetensors")) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": modes})
        elif self.path == f"/{REPO}.git/info/lfs/objects/batch":
            objects = [
                each | {"actions": {"upload": {"href": f"{self.server.url}/store/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif self.path == f"/api/models/{REPO}/commit/main" and not self.server.refuses_commits:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.server.files[value["path"]] = self.server.stored[value["oid"]]
            self._send(
                200, {"success": True, "commitOid": "c0ffee", "commitUrl": f"{self.server.url}/{REPO}/commit/c0"}
            )
        else:
            self._send(403, {"error": f"not here: {self.path}"})

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, {})

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, each in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, each)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub, with a token that it knows in the environment."""
    with FakeHub() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a store of its own; without it files go by LFS
        monkeypatch.setenv("HF_TOKEN", "hf_known")
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export, as far as the hub is concerned."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (tmp_path / "out/model-f16.gguf").write_bytes(b"GGUF" * 100)
    return tmp_path / "out"


def test_an_export_is_pushed_as_private_and_whole(fake: FakeHub, folder: Path) -> None:
    hub.check(REPO, public=False)
    assert fake.private == {}, "a check makes no repository"
    assert hub.push(folder, REPO, public=False) == f"{fake.url}/{REPO}"
    assert fake.private == {REPO: True}
    assert fake.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.check(REPO, public=False)  # once more into the private repository


def test_a_public_repository_is_asked_for(fake: FakeHub, folder: Path) -> None:
    fake.private[REPO] = False
    with pytest.raises(NescioError, match="the repository is public; add --public"):
        hub.check(REPO, public=False)
    hub.check(REPO, public=True)
    del fake.private[REPO]
    hub.push(folder, REPO, public=True)
    assert fake.private == {REPO: False}


def test_what_the_hub_refuses_is_one_line_and_the_export_stays(
    fake: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.refuses_commits = True
    with pytest.raises(NescioError, match=rf"the hub refuses \(.*`hf upload {REPO} {folder}` pushes it") as error:
        hub.push(folder, REPO, public=False)
    assert "\n" not in str(error.value) and len(list(folder.iterdir())) == 2
    with pytest.raises(NescioError, match=r"--push no name at all: the hub refuses \("):
        hub.check("no name at all", public=False)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    with pytest.raises(
        NescioError, match=r"--push me/mine: no token for the hub; run `hf auth login`, or set HF_TOKEN"
    ):
        hub.check(REPO, public=False)


def test_a_hub_that_does_not_answer_is_one_line(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NescioError, match="the hub refuses") as error:
        hub.check(REPO, public=False)
    assert "\n" not in str(error.value) and hub.licence_of("me/base") is None


def test_the_licence_of_a_base_is_read_from_its_card(fake: FakeHub) -> None:
    fake.private |= {"me/base": False, "me/silent": False}
    assert [hub.licence_of(name) for name in ("me/base", "me/silent", "me/gone")] == ["mit", None, None]
