"""The Transformers drop-in against `guidance_scale` where that is right, and plain forwards where it is not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TextIteratorStreamer,
)
from transformers.generation.streamers import BaseStreamer

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
    [({"scale": -1.0}, "scale"),
     ({"scale": float("nan")}, "scale"), ({"scale": [1.0, 2.0]}, "2 guidance settings for 3"),
     ({"space": "x"}, "space"), ({"how": 2.0}, "give a scale by name"), ({"plausibility": 2.0}, "plausibility"),
     ({"negative_prompt_ids": torch.tensor([[1]])}, "3 prompts but 1")],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(make_model: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said):
        generate(make_model("llama"), **batch(**options))


def test_rows_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(NescioError, match="3 rows are not pairs"):
        GuidanceProcessor(scale=2.0)(torch.zeros(3, 1), torch.zeros(3, 8))


WIDTH = max(map(len, PROMPTS))


def guided_steps(model: Any, index: int, how: Guidance, steps: int, *processors: Any) -> tuple[list[int], list[Tensor]]:
    """Greedy decoding with plain forwards; processors change the guided distribution, given the left-padded prompt."""
    found: list[int] = []
    scores: list[Tensor] = []
    with torch.no_grad():
        for _ in range(steps):
            both = [model(torch.tensor([rows[index] + found])).logits[:, -1] for rows in (PROMPTS, NEGATIVES)]
            guided = guide(both[0], both[1], how)
            for processor in processors:
                guided = processor(torch.tensor([[7] * (WIDTH - len(PROMPTS[index])) + PROMPTS[index] + found]), guided)
            scores.append(guided)
            found.append(int(guided.argmax()))
    return found, scores


class Collected(BaseStreamer):
    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.values.append(value)

    def end(self) -> None:
        self.ended = True


def test_a_streamer_gets_the_positive_rows_as_without_guidance(make_model: Make, chatml: Any) -> None:
    model, streamer = make_model("llama"), Collected()
    whole = generate(model, **batch(scale=2.0, streamer=streamer))
    prompts, *tokens = streamer.values
    assert streamer.ended
    assert torch.equal(prompts, whole[:, :WIDTH])
    assert torch.equal(torch.stack(tokens, 1), whole[:, WIDTH:])
    one = {"input_ids": torch.tensor([[40, 41]]), "negative_prompt_ids": torch.tensor([[50, 60, 70]])}
    texts = TextIteratorStreamer(chatml, skip_prompt=True)  # refuses more than one row
    alone = generate(model, **one, scale=2.0, max_new_tokens=6, pad_token_id=0, streamer=texts)
    assert "".join(texts) == chatml.decode(alone[0, 2:])


@pytest.mark.parametrize("times", [1, 2])
def test_an_output_has_the_guided_scores_and_the_positive_branchs_logits(make_model: Make, times: int) -> None:
    model, how = make_model("llama"), Guidance(2.0, "log")
    asked = batch(how=how, num_return_sequences=times)
    given = generate(model, **asked, return_dict_in_generate=True, output_scores=True, output_logits=True)
    assert torch.equal(given.sequences, generate(model, **asked))
    assert given.past_key_values is None
    assert len(given.scores) == len(given.logits) == 10
    for row in range(3 * times):
        _, scores = guided_steps(model, row // times, how, 10)
        assert torch.allclose(torch.stack([step[row] for step in given.scores]), torch.cat(scores), atol=1e-4)
        found = given.sequences[row, WIDTH:].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([PROMPTS[row // times] + found])).logits[0, -11:-1]
        assert torch.allclose(torch.stack([step[row] for step in given.logits]), logits, atol=1e-4)
    plain = generate(model, **asked, return_dict_in_generate=True)
    assert plain.scores is None and plain.logits is None
    model.generation_config.return_dict_in_generate = True
    found = [generate(model, **asked, output_scores=True)]
    model.generation_config.output_scores = True
    found += [generate(model, **asked), generate(model, **asked, output_scores=False)]
    assert all(torch.equal(a, b) for one in found[:2] for a, b in zip(one.scores, given.scores, strict=True))
    assert found[2].scores is None


def unseen(ids: Tensor, scores: Tensor) -> Tensor:
    return scores.scatter(1, ids, -torch.inf)


def after_the_last(row: int, ids: Tensor) -> list[int]:
    return [5, 9, (int(ids[-1]) + len(ids)) % 300]


@pytest.mark.parametrize(
    ("options", "config", "processor"),
    [
        ({"repetition_penalty": 20.0}, {}, RepetitionPenaltyLogitsProcessor(20.0)),
        ({}, {"repetition_penalty": 20.0}, RepetitionPenaltyLogitsProcessor(20.0)),  # as Qwen2's generation config
        ({"no_repeat_ngram_size": 1}, {}, NoRepeatNGramLogitsProcessor(1)),
        ({"logits_processor": [unseen]}, {}, unseen),
        ({"prefix_allowed_tokens_fn": after_the_last}, {}, PrefixConstrainedLogitsProcessor(after_the_last, 1)),
    ],
)
def test_processors_act_on_the_guided_distribution_and_see_the_positive_prompt_alone(
    make_model: Make, options: dict[str, Any], config: dict[str, Any], processor: Any
) -> None:
    model, how = make_model("llama"), Guidance(3.0, "log")
    for name, value in config.items():
        setattr(model.generation_config, name, value)
    expected = [guided_steps(model, i, how, 10, processor)[0] for i in range(3)]
    assert generate(model, **batch(how=how, **options))[:, WIDTH:].tolist() == expected
    assert expected != [guided_steps(model, i, how, 10)[0] for i in range(3)], "the option changes nothing here"


def test_stopping_criteria_see_the_positive_rows_and_end_a_pair_together(make_model: Make) -> None:
    model, seen = make_model("llama"), []
    whole = generate(model, **batch(scale=2.0))
    marks = whole[:, WIDTH + 3]

    def stop(ids: Tensor, scores: Any) -> Tensor:
        seen.append(ids.clone())
        return ids[:, -1] == marks

    cut = generate(model, **batch(scale=2.0, stopping_criteria=[stop], eos_token_id=1))
    for row, full, mark in zip(cut[:, WIDTH:].tolist(), whole[:, WIDTH:].tolist(), marks.tolist(), strict=True):
        end = full.index(mark) + 1
        assert row[:end] == full[:end]
        assert set(row[end:]) <= {0}
    assert all(len(ids) == 3 and torch.equal(ids[:, :WIDTH], whole[:, :WIDTH]) for ids in seen)
    ended = generate(model, **batch(scale=2.0, stopping_criteria=[lambda ids, scores: ids.shape[1] >= WIDTH + 2]))
    assert torch.equal(ended, whole[:, : WIDTH + 2])


def test_max_length_and_min_length_count_the_prompt_as_transformers_does(make_model: Make) -> None:
    model = make_model("llama")
    whole = generate(model, **batch(scale=2.0))
    sized = batch(scale=2.0, max_length=WIDTH + 4) | {"max_new_tokens": None}
    assert torch.equal(generate(model, **sized), whole[:, : WIDTH + 4]), "the negative prompts are longer"
    end = int(whole[0, WIDTH])
    least = generate(model, **batch(scale=2.0, min_length=WIDTH + 4, eos_token_id=end))
    assert end not in least[0, WIDTH : WIDTH + 4].tolist()
    with pytest.raises(NescioError, match=f"max_length {WIDTH}: the prompt has {WIDTH} tokens; give max_new_tokens"):
        generate(model, **sized | {"max_length": WIDTH})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("position_ids", torch.zeros(3, 6, dtype=torch.long)), ("token_type_ids", torch.zeros(3, 6)),
        ("past_key_values", object()), ("inputs_embeds", torch.zeros(3, 6, 8)), ("pixel_values", torch.zeros(3, 6)),
        ("num_beams", 2), ("prompt_lookup_num_tokens", 1), ("assistant_model", object()), ("penalty_alpha", 0.6),
        ("stop_strings", ["x"]), ("guidance_scale", 2.0), ("custom_generate", "x"), ("output_attentions", True),
        ("output_hidden_states", True), ("encoder_repetition_penalty", 2.0), ("min_p", 0.1), ("typical_p", 0.5),
    ],
)  # fmt: skip
def test_what_would_part_the_branches_is_refused_by_name(make_model: Make, name: str, value: Any) -> None:
    with pytest.raises(NescioError, match=f"generate: {name} ") as caught:
        generate(make_model("llama"), **batch(scale=2.0, **{name: value}))
    assert "\n" not in str(caught.value)


def test_generation_configs_are_looked_at_as_transformers_does(make_model: Make) -> None:
    model = make_model("llama")
    whole = generate(model, **batch(scale=2.0))
    config = GenerationConfig(max_new_tokens=4, pad_token_id=0)
    given = {name: value for name, value in batch(scale=2.0).items() if name not in ("max_new_tokens", "pad_token_id")}
    assert torch.equal(generate(model, **given, generation_config=config), whole[:, : WIDTH + 4])
    with pytest.raises(NescioError, match=r"generation_config\.do_sample: give do_sample to generate itself"):
        generate(model, **given, generation_config=GenerationConfig(do_sample=True))
    model.generation_config.num_beams = 4  # the model's own would make beams of the pairs
    with pytest.raises(NescioError, match="num_beams would separate the two branches"):
        generate(model, **batch(scale=2.0))
    assert torch.equal(generate(model, **batch(scale=2.0, num_beams=1)), whole)


@pytest.mark.parametrize(("name", "value", "off"), [("min_p", 0.9, 0.0), ("typical_p", 0.5, 1.0)])
def test_a_sampler_of_the_models_own_is_refused_when_sampling(
    make_model: Make, name: str, value: float, off: float
) -> None:
    model = make_model("llama")
    drawn = generate(model, **batch(scale=2.0, do_sample=True))
    greedy = generate(model, **batch(scale=2.0))
    setattr(model.generation_config, name, value)
    with pytest.raises(NescioError, match=f"generate: {name} is not supported .* turn it off, also in the generation"):
        generate(model, **batch(scale=2.0, do_sample=True))
    assert torch.equal(generate(model, **batch(scale=2.0, do_sample=True, **{name: off})), drawn)
    assert torch.equal(generate(model, **batch(scale=2.0)), greedy), "greedy decoding draws nothing"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention_mask": torch.tensor([[1] * 5 + [0]] * 3)}, "attention_mask ends in 0; pad on the left"),
        ({"negative_prompt_attention_mask": torch.ones(3, 2)}, "negative_prompt_attention_mask is "),
        ({"negative_prompt_ids": None}, "negative_prompt_ids must be a tensor"),
        ({"input_ids": PROMPTS}, "input_ids must be a tensor"),
        ({"num_return_sequences": 0}, "must be 1 or more"),
        ({"do_sample": True, "temperature": -1.0}, "temperature must be 0"),
        ({"do_sample": True, "seed": [1, 2]}, r"seed \[1, 2\]: must be one whole number; row i draws with seed \+ i"),
        ({"do_sample": True, "top_p": 0.0}, "top_p lie in"),
    ],
)
def test_prompts_and_sampling_out_of_range_are_one_line(make_model: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(NescioError, match=said):
        generate(make_model("llama"), **batch(scale=2.0) | options)


def test_padding_is_seen_without_masks_and_settings_may_come_as_arrays(make_model: Make) -> None:
    model, asked = make_model("llama"), batch(scale=[1.5, 2.0, 3.0])
    whole = generate(model, **asked)[:, WIDTH:]
    for scales in ((1.5, 2.0, 3.0), np.array([1.5, 2.0, 3.0]), torch.tensor([1.5, 2.0, 3.0])):
        assert torch.equal(generate(model, **asked | {"scale": scales})[:, WIDTH:], whole)
    bare = asked | {"attention_mask": None, "negative_prompt_attention_mask": None, "pad_token_id": 7}  # as it pads
    assert torch.equal(generate(model, **bare)[:, WIDTH:], whole)
    sampled = {"do_sample": True, "temperature": None, "top_p": None, "top_k": None}  # Transformers' own defaults
    assert torch.equal(generate(model, **asked, **sampled), generate(model, **asked, do_sample=True))


def test_a_processor_that_is_used_again_begins_again(make_model: Make) -> None:
    model, ids = make_model("llama"), torch.tensor([[40, 41], [50, 51]])
    processor = GuidanceProcessor(scale=2.0, temperature=3.0, seed=1)
    first, again = (
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=0,
            logits_processor=LogitsProcessorList([processor]),
        )
        for _ in range(2)
    )  # fmt: skip
    assert torch.equal(first, again)
    assert torch.equal(first[0, 2:], first[1, 2:])
