"""A server on loopback in this process, for the tests of this folder."""

import asyncio
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml

from nescio.engines.base import Engine
from nescio.pii.base import Span
from nescio.serve.app import create_app
from nescio.serve.gateway import Gateway
from nescio.serve.keys import hash_key
from nescio.serve.policy import Policies
from nescio.serve.served import served_by, served_upstream

STAFF = "nescio-staff"
POLICIES = f"""
policies:
  default:
    adapters: [careful]
    guidance: {{scale: {{default: 3, min: 2, max: 5}}}}
    audit: off
    limits: {{max_tokens: 64}}
  pinned:
    keys: ['{hash_key("nescio-pinned")}']
    adapters: [careful]
    outside: pin
    audit: off
    limits: {{max_tokens: 64}}
  staff:
    keys: ['{hash_key(STAFF)}']
    adapters: [careful]
    base_model: true
    guidance: {{scale: {{default: 1, min: 0, max: 10}}, space: {{default: prob, allowed: [prob, log]}}}}
    audit: off
    limits: {{choices: 4}}
    allow:
      {{system_message: true, negative_prompt: true, completions: true, logprobs: true, prefill: true, tools: true,
       response_format: true, logit_bias: true}}
  audited:
    keys: ['{hash_key("nescio-audited")}']
    base_model: true
    audit: mask
    guidance: {{scale: 1}}
  blocked:
    keys: ['{hash_key("nescio-blocked")}']
    base_model: true
    audit: block
    guidance: {{scale: 1}}
"""


class Letters:
    """Takes every run of capital letters for personal data."""

    name = "letters"
    broken = False

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        if self.broken:
            raise RuntimeError("out of memory")
        return [[Span(m.start(), m.end(), "PII", m[0]) for m in re.finditer("[A-Z]+", text)] for text in texts]


class Running:
    """A server that runs in a thread of this process."""

    def __init__(
        self, engine: Engine, policies: str, rows: int = 8, queue: int = 32, max_body: int = 2**20,
        upstream: str | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.upstream = upstream  # the name of its model
        self.detector = Letters()
        self.gateway: Gateway
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(policies, rows, queue, max_body))
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self, policies: str, rows: int, queue: int, max_body: int) -> None:
        async def main() -> None:
            checked = Policies.model_validate(yaml.safe_load(policies))
            served = served_by(self.engine, "tiny", {"careful": Path("nowhere")})
            if self.upstream:
                served = served_upstream(self.upstream, checked)
            self.gateway = Gateway(
                engine=self.engine, served=served, policies=checked, detector=self.detector, rows=rows, queue=queue
            )
            config = uvicorn.Config(create_app(self.gateway, max_body), port=0, log_config=None, access_log=False)
            self._server = uvicorn.Server(config)
            task = asyncio.create_task(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
            self._ready.set()
            await task
            await self.gateway.close()

        asyncio.run(main())

    def post(self, path: str, body: Any, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        content = json.dumps(body)  # httpx can't write half of a surrogate pair
        return httpx.post(f"{self.url}/v1/{path}", content=content, headers=headers, timeout=60, **options)

    def chat(self, text: str = "Hello", key: str | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "careful", "messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0}
        return self.post("chat/completions", {k: v for k, v in (body | fields).items() if v is not ...}, key)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
