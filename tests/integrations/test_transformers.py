"""The Transformers drop-in against `guidance_scale` where that is right, and plain forwards where it is not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.guide import guide
from nescio.integrations.transformers import GuidanceProcessor, generate

Make = Callable[..., Any]
PROMPTS = [[40, 41, 42, 43], [50, 60, 70, 80, 90, 91], [33]]
NEGATIVES = [[44, 45], [51], [52, 53, 54, 55, 56, 57, 58]]


def left_padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[7] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def batch(**options: Any) -> dict[str, Any]:
    (ids, mask), (negative, negative_mask) = left_padded(PROMPTS), left_padded(NEGATIVES)
    return {
        "input_ids": ids, "attention_mask": mask, "negative_prompt_ids": negative,
        "negative_prompt_attention_mask": negative_mask, "max_new_tokens": 10, "pad_token_id": 0,
    } | options  # fmt: skip


def reference(model: Any, index: int, how: Guidance) -> list[int]:
    found: list[int] = []
    with torch.no_grad():
        for _ in range(10):
            both = [model(torch.tensor([rows[index] + found])).logits[:, -1] for rows in (PROMPTS, NEGATIVES)]
            found.append(int(guide(both[0], both[1], how).argmax()))
    return found


@pytest.mark.parametrize("style", ["llama", "qwen2"])
@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_greedy_tokens_are_those_of_guidance_scale(make_model: Make, style: str, scale: float) -> None:
    model = make_model(style)
    for prompt, negative in zip(PROMPTS, NEGATIVES, strict=True):
        ids, other = torch.tensor([prompt]), torch.tensor([negative])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), guidance_scale=scale, negative_prompt_ids=other,
            max_new_tokens=10, do_sample=False, pad_token_id=0,
        )  # fmt: skip
        ours = generate(model, ids, other, scale=scale, space="log", max_new_tokens=10, pad_token_id=0)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("style", ["llama", "gpt2"])
def test_padded_rows_with_scales_and_spaces_of_their_own_are_those_of_plain_forwards(
    make_model: Make, style: str
) -> None:
    model = make_model(style)
    each = [Guidance(1.5, "log"), Guidance(3.0, plausibility=0.9), Guidance(4.0, "log", adaptive=True)]
    columns = {name: [getattr(how, name) for how in each] for name in ("scale", "space", "plausibility", "adaptive")}
    ours = generate(model, **batch(**columns))
    width = max(map(len, PROMPTS))
    assert ours[:, width:].tolist() == [reference(model, i, how) for i, how in enumerate(each)]
    assert torch.equal(ours[:, :width], left_padded(PROMPTS)[0])
    assert torch.equal(ours, generate(model, **batch(how=each)))
    assert torch.equal(ours, generate(model, **batch(how=Guidance(), **columns)))
    assert not torch.equal(ours, generate(model, **batch(scale=columns["scale"], space=columns["space"])))


def test_several_sequences_of_a_prompt_are_drawn_each_with_its_seed(make_model: Make) -> None:
    model = make_model("llama")
    options = {"scale": [1.5, 3.0, 0.5], "do_sample": True, "temperature": 2.0, "seed": 5}
    many = generate(model, **batch(num_return_sequences=2, **options))
    assert len(many) == 6
    assert torch.equal(many, generate(model, **batch(num_return_sequences=2, **options)))
    assert not torch.equal(many[0], many[1])
    assert torch.equal(many[0], generate(model, **batch(**options))[0])
    greedy = generate(model, **batch(scale=2.0))
    repeated = generate(model, **batch(scale=2.0, num_return_sequences=2))
    assert torch.equal(repeated[::2], greedy) and torch.equal(repeated[1::2], greedy)
    assert torch.equal(generate(model, **batch(scale=2.0, do_sample=True, top_k=1)), greedy)


def test_a_pair_ends_together_at_eos(make_model: Make) -> None:
    model = make_model("llama")
    whole = generate(model, **batch(scale=2.0))[:, 6:]
    end = int(whole[0, 3])
    cut = generate(model, **batch(scale=2.0, eos_token_id=end))[:, 6:]
    for row, full in zip(cut.tolist(), whole.tolist(), strict=True):
        stop = full.index(end) + 1 if end in full else len(full)
        assert row[:stop] == full[:stop]
        assert set(row[stop:]) <= {0}


@pytest.mark.parametrize(
    ("options", "said"),
    [({"num_beams": 2}, "num_beams"), ({"prompt_lookup_num_tokens": 3}, "prompt_lookup"), ({"scale": -1.0}, "scale"),
     ({"scale": float("nan")}, "scale"), ({"scale": [1.0, 2.0]}, "2 guidance settings for 3"),
     ({"space": "x"}, "space"), ({"how": 2.0}, "give a scale by name"), ({"plausibility": 2.0}, "plausibility"),
     ({"negative_prompt_ids": torch.tensor([[1]])}, "3 prompts but 1")],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(make_model: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said):
        generate(make_model("llama"), **batch(**options))


def test_rows_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(NescioError, match="3 rows are no pairs"):
        GuidanceProcessor(scale=2.0)(torch.zeros(3, 1), torch.zeros(3, 8))
