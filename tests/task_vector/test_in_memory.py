"""A sweep puts the weights in a loaded model that `subtract` would write, and leaves the base behind, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from nescio.core.errors import NescioError
from nescio.task_vector.in_memory import sweep
from nescio.task_vector.subtract import subtract
from nescio.task_vector.vector import open_vector


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def same(one: Any, other: Any) -> bool:
    b = other.state_dict()
    return all(torch.equal(tensor, b[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("style", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_step_is_what_would_be_written(make_pair: Any, tmp_path: Path, style: str, dtype: Any) -> None:
    base, tuned = make_pair(style, dtype=dtype)
    model, steps = load(base), []
    for c in sweep(model, open_vector(str(base), str(tuned)), [0.25, 2.0, 0.5]):
        subtract(str(base), str(tuned), tmp_path / f"at-{c}", c)
        assert same(model, load(tmp_path / f"at-{c}"))
        steps.append(c)
    assert steps == [0.25, 2.0, 0.5] and same(model, load(base))


def test_the_base_comes_back_when_the_check_fails(make_pair: Any) -> None:
    base, tuned = make_pair()
    model = load(base)
    walk = sweep(model, open_vector(str(base), str(tuned)), [1.0])
    next(walk)
    assert not same(model, load(base))
    walk.close()
    assert same(model, load(base))


def test_another_model_is_refused(make_pair: Any, make_model: Any) -> None:
    base, tuned = make_pair()
    vector = open_vector(str(base), str(tuned))
    with pytest.raises(NescioError, match="the loaded model has no"):
        next(sweep(make_model("llama", num_hidden_layers=1), vector, [0.5]))
    with pytest.raises(NescioError, match="coefficient"):
        next(sweep(load(base), vector, [float("nan")]))
