"""Every interface has every setting of guidance, derived from the fields of `Guidance`."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from torch import Tensor
from typer.testing import CliRunner

from nescio import compat
from nescio.cli.main import app
from nescio.core.guidance import COMBINING, Guidance
from nescio.core.spaces import SPACES
from nescio.engines.vllm.branch_rows import BranchRow
from nescio.pipeline.evaluate_sections import RowSection
from nescio.pipeline.recipe import Recipe
from nescio.serve.admission import admit_chat
from nescio.serve.openai_api.request_bodies import ChatRequest, GuidanceOptions
from nescio.serve.policy import Caller, GuidanceRules, Policy
from nescio.serve.served import Served

FLAT = {"scale": 3, "space": "log", "positive": "Hush.", "negative": "Tell.", "plausibility": 0.1, "adaptive": True}
WHOLE = Guidance(3.0, "log", "Hush.", "Tell.", 0.1, True)


@pytest.fixture
def mean_space(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A space that is registered from outside of `nescio.core.spaces`."""
    SPACES.names()
    monkeypatch.setattr(SPACES, "_items", dict(SPACES._items))

    @SPACES.register("mean")
    def mean(positive: Tensor, negative: Tensor, gamma: Tensor) -> Tensor:
        return ((positive + negative) / 2).log_softmax(-1)

    yield "mean"


def test_a_row_takes_a_guidance_and_the_flat_keys_of_0_1_0_are_the_same() -> None:
    nested = RowSection(name="a", guidance=FLAT)  # type: ignore[arg-type]
    old = compat.recipe({"evaluate": {"rows": [{"name": "a", **FLAT}]}}).content
    flat = RowSection.model_validate(old["evaluate"]["rows"][0])
    assert nested == flat
    assert nested.guidance == WHOLE
    assert RowSection.model_validate(nested.model_dump(mode="json")) == nested


@pytest.mark.parametrize("name", [field.name for field in COMBINING])
def test_every_setting_is_in_policies_bodies_and_the_command_line(name: str) -> None:
    assert name in GuidanceRules.model_fields
    assert name in GuidanceOptions.model_fields
    assert f"--{name}" in CliRunner().invoke(app, ["chat", "--help"], env={"COLUMNS": "200"}).output
    assert name in asdict(BranchRow(request="a", role="positive"))["guidance"]


def test_a_request_gets_each_setting_that_its_policy_allows() -> None:
    rules = {
        "scale": {"default": 2, "max": 4}, "space": {"default": "prob", "allowed": ["prob", "log"]},
        "plausibility": {"default": 0, "max": 0.5}, "adaptive": {"default": False, "allowed": [False, True]},
    }  # fmt: skip
    policy = Policy.model_validate({"base_model": True, "guidance": {**rules, "protect": "Hush.", "reveal": "Tell."}})
    own = {field.name: FLAT[field.name] for field in COMBINING}
    body = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}], "guidance": own})
    admitted = admit_chat(body, Caller("c", policy), Served("m", {}, (), 0))
    assert admitted.requests[0].guidance == WHOLE


@pytest.mark.parametrize(
    "rules", [{"plausibility": 2}, {"space": "lin"}, {"space": {"default": "log", "allowed": ["log", "lin"]}}]
)
def test_a_policy_that_allows_what_no_guidance_can_have_is_refused_when_it_is_read(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"guidance (plausibility|space)"):
        GuidanceRules.model_validate(rules)


def test_a_new_space_is_a_space_everywhere(mean_space: str, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"base": "x", "tuned": "x", "data": {"dialogs": str(tmp_path / "d.jsonl")}}
    recipe["evaluate"] = {
        "spaces": [mean_space],
        "rows": [{"name": "a", "guidance": {"scale": 2, "space": mean_space}}],
    }
    assert Recipe.model_validate(recipe).evaluate.rows[0].guidance.space == mean_space
    assert GuidanceRules.model_validate({"space": mean_space}).space.default == mean_space  # type: ignore[attr-defined]
    assert GuidanceOptions.model_validate({"space": mean_space}).space == mean_space  # type: ignore[attr-defined]
    row = BranchRow(request="a", role="positive", guidance=Guidance(2.0, mean_space))

    class Params:
        extra_args = row.extra_args()

    assert BranchRow.of(Params()) == row


def test_each_field_has_help() -> None:
    assert all(field.metadata["help"].endswith(".") for field in fields(Guidance))
