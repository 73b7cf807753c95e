"""A hub on loopback that speaks as much of the HTTP API as huggingface_hub asks for."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants

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


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that runs, with a token that it knows in the environment."""
    with FakeHub() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a store of its own; without it files go by LFS
        monkeypatch.setenv("HF_TOKEN", "hf_known")
        yield server
        server.shutdown()
