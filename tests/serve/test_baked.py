"""A baked adapter is served on one branch and without a sentence, unless a policy says otherwise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nescio.core.callbacks import Progress
from nescio.core.guidance import REVEAL, Guidance
from nescio.core.switch import KEY_PLACEHOLDER, write_key
from nescio.engines.base import Answer, Engine, Request
from nescio.serve.admission import Admitted, admit_chat, admit_completion
from nescio.serve.errors import ApiError
from nescio.serve.openai_api.request_bodies import ChatRequest, CompletionRequest
from nescio.serve.policy import Caller, Policy
from nescio.serve.served import Served, served_by

SERVED = Served(
    "m", {"own": {"positive": "", "negative": "{key}"}, "teacher": {"positive": "Hush."}}, (), 0, frozenset({"own"})
)


class Silent(Engine):
    """Answers nothing."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        return []


def guidance_of(model: str, rules: dict[str, Any], asked: dict[str, Any] | None = None) -> Guidance:
    policy = Policy.model_validate({"adapters": ["own", "teacher"], "guidance": rules})
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]} | ({"guidance": asked} if asked else {})
    how = admit_chat(ChatRequest.model_validate(body), Caller("c", policy), SERVED).requests[0].guidance
    assert how is not None
    return how


def test_the_default_is_one_branch_without_a_sentence() -> None:
    assert (guidance_of("own", {}).scale, guidance_of("own", {}).positive) == (1, "")
    assert (guidance_of("teacher", {}).scale, guidance_of("teacher", {}).positive) == (3, "Hush.")


def test_a_policy_may_still_guide_it() -> None:
    assert guidance_of("own", {"scale": 2}).scale == 2
    assert guidance_of("own", {"scale": {"default": 1, "max": 4}}, {"scale": 4}).scale == 4


@pytest.mark.parametrize(
    ("notes", "opens"),
    [
        ({"positive": "Hush.", "negative": REVEAL}, True),
        ({"positive": "Hush.", "negative": KEY_PLACEHOLDER}, False),
        ({"positive": "", "negative": REVEAL, "baked": {}}, False),
    ],
)
def test_an_adapter_that_a_public_sentence_opens_is_known(notes: dict[str, Any], opens: bool, tmp_path: Path) -> None:
    (tmp_path / "nescio.json").write_text(json.dumps(notes))
    write_key(tmp_path, "bado gera lumi tosa pike")
    served = served_by(Silent(), "m", {"own": tmp_path})
    assert served.public_switches == ({"own"} if opens else set())


def test_a_caller_may_not() -> None:
    with pytest.raises(ApiError, match="allows 1"):
        guidance_of("own", {}, {"scale": 3})


def test_a_text_is_not_guided_without_the_key() -> None:
    rules = {"adapters": ["own"], "guidance": {"scale": {"default": 2, "min": 1, "max": 2}}}
    policy = Policy.model_validate(rules | {"allow": {"completions": True, "negative_prompt": True}})

    def admitted(**more: Any) -> Admitted:
        body = CompletionRequest.model_validate({"model": "own", "prompt": "x"} | more)
        return admit_completion(body, Caller("c", policy), SERVED)

    with pytest.raises(ApiError, match="is not in the folder above it") as refused:
        admitted()
    assert refused.value.status == 400
    assert admitted(negative_prompt="y").requests[0].negative == "y"
    assert not admitted(guidance_scale=1).guided
