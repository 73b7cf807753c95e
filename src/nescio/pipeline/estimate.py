"""What a run will take, before it is run: sizes, tokens, time and memory by stage.

Tokens are counted on a part of the dialogs and scaled up; the machine's speed is measured for a moment. Times are
within a factor of two or so. Knows the recipe and the model's shape; runs no model.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table

from nescio.core.model_source import resolve
from nescio.core.models import best_device, best_dtype, load_tokenizer
from nescio.core.prompts import encode, render
from nescio.data.dialogs import Dialog, parse_dialog
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import samples_of
from nescio.data.synthetic import generate
from nescio.pii.registry import load_detector
from nescio.pipeline.evaluate import measures
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import EvaluateSection, TrainSection, TuneSection

_LOOKED_AT = 200  # dialogs counted exactly
_TRAIN_FLOPS, _DECODE_FLOPS = 4.0, 2.0  # per weight and token: forward and backward without weight gradients; forward
_AGAIN_FLOPS = 2.0  # the second forward of gradient checkpointing
_TRAIN_SHARE, _DECODE_SHARE = 0.65, 0.30  # of the measured speed of a bare matrix product, as seen on two CPU cores
_ACTIVATIONS = 40  # floats kept per token, layer and hidden unit for the backward pass


@dataclass(frozen=True, slots=True)
class Cost:
    """One stage: how many things, how many tokens, seconds and bytes."""

    stage: str
    items: str
    tokens: float
    seconds: float
    memory: float


def estimate(recipe: Recipe) -> list[Cost]:
    """The cost of each stage of a recipe.

    Raises:
        NescioError: The dialogs, the detector or the model can't be found.
    """
    dialogs = _dialogs(recipe)
    looked_at = dialogs[:_LOOKED_AT]
    scale = len(dialogs) / len(looked_at)
    tokenizer = load_tokenizer(recipe.base)
    lengths = [len(encode(tokenizer, render(tokenizer, dialog.messages))) for dialog in looked_at]
    detector = load_detector(recipe.detector.model, **recipe.detector.model_dump(exclude={"model"}))
    samples = list(samples_of(looked_at, detector))
    prompt = sum(len(encode(tokenizer, render(tokenizer, s.messages))) for s in samples[:64]) / max(
        len(samples[:64]), 1
    )
    answer = sum(len(tokenizer(s.rejected).input_ids) for s in samples[:64]) / max(len(samples[:64]), 1)
    total, held = len(samples) * scale, recipe.data.test_share
    train = min(total * (1 - held), recipe.data.train_samples or total)
    test = min(total * held, recipe.data.validation_samples or total)
    shape = _Shape.of(recipe.base)
    costs = [Cost("data", f"{len(dialogs)} dialogs", sum(lengths) * scale, 0, 0)]
    if recipe.tune:
        tokens = sum(lengths) * scale * (1 - held) * recipe.tune.epochs
        row = sum(lengths) / len(lengths) * recipe.tune.batch_size
        costs.append(shape.training("tune", f"{len(dialogs) * (1 - held):.0f} dialogs", tokens, row, recipe.tune))
    costs.append(Cost("samples", f"{train + total * held:.0f} samples", 0, 0, 0))
    generated = recipe.generate
    ways_here, ways_elsewhere = _ways(recipe, at_endpoints=False), _ways(recipe, at_endpoints=True)
    asked = (train + test) * (1 + generated.tries) / 2
    here, elsewhere = asked * ways_here, asked * ways_elsewhere
    items = f"{here:.0f} answers" + (f", {elsewhere:.0f} at endpoints (their time not counted)" if elsewhere else "")
    costs.append(shape.decoding("candidates", items, here, prompt, generated.max_tokens))
    pairs = train * (ways_here + ways_elsewhere) * (2 if recipe.pairs.twins else 1)
    pair = prompt + answer + min(generated.max_tokens, 2 * answer)
    tokens = pairs * pair * recipe.train.epochs
    costs.append(shape.training("train", f"{pairs:.0f} pairs", tokens, pair * recipe.train.batch_size, recipe.train))
    asked = _asked(recipe.evaluate, min(recipe.evaluate.samples, total * held))
    costs.append(shape.decoding("evaluate", f"{asked:.0f} answers", asked, prompt, recipe.evaluate.max_tokens))
    return costs


def _asked(section: EvaluateSection, samples: float) -> float:
    """Answers of all rows; a guided row counts twice."""
    variants = 1 + len(section.plausibility) + section.adaptive
    rows = 3 + 2 * len(section.scales) * len(section.spaces) * variants + len(section.rows)
    rows += 4 * section.baselines
    return rows * (samples + sum(measure.cost(samples) for measure in measures(section)))


def _ways(recipe: Recipe, at_endpoints: bool) -> float:
    """How many answers the sources there, or here, give to each sample: their strategies, by the share asked about.

    A strategy that passes samples over, as the chat ones do, is counted as if it did not.
    """
    sources = [source for source in recipe.generate.sources if source.is_endpoint == at_endpoints]
    return sum(len(source.strategies) * source.share for source in sources)


def _dialogs(recipe: Recipe) -> list[Dialog]:
    made_up = recipe.data.synthetic
    if made_up is not None:
        return [parse_dialog(row, row["id"]) for row in generate(made_up.dialogs, recipe.seed, made_up.max_exchanges)]
    assert recipe.data.dialogs is not None  # the recipe's own check
    # A bad row is the run's to tell; the estimate does without it.
    return list(read_dialogs(recipe.data.dialogs, recipe.data.pii, lambda error, row: None))


@dataclass(frozen=True, slots=True)
class _Shape:
    """A model's size, and this machine's speed with it."""

    weights: int
    layers: int
    hidden: int
    vocab: int
    bytes_each: int
    speed: float

    @classmethod
    def of(cls, model: str) -> "_Shape":
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(resolve(model))
        with torch.device("meta"):
            bare: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        weights = sum(parameter.numel() for parameter in bare.parameters())
        size = torch.empty(0, dtype=best_dtype()).element_size()
        return cls(weights, config.num_hidden_layers, config.hidden_size, config.vocab_size, size, _speed())

    def training(self, stage: str, items: str, tokens: float, row: float, how: TuneSection | TrainSection) -> Cost:
        again = _AGAIN_FLOPS if how.gradient_checkpointing else 0.0
        seconds = tokens * (_TRAIN_FLOPS + again) * self.weights / (self.speed * _TRAIN_SHARE)
        # Checkpointing keeps what goes into each layer, and all of the one layer that is being computed again.
        kept = self.layers + _ACTIVATIONS if how.gradient_checkpointing else self.layers * _ACTIVATIONS
        activations = row * (kept * self.hidden * self.bytes_each + 3 * self.vocab * 4)
        return Cost(stage, items, tokens, seconds, self.weights * self.bytes_each * 1.3 + activations)

    def decoding(self, stage: str, items: str, answers: float, prompt: float, new: float) -> Cost:
        tokens = answers * (prompt + new)
        seconds = tokens * _DECODE_FLOPS * self.weights / (self.speed * _DECODE_SHARE)
        cache = 32 * (prompt + new) * self.layers * self.hidden * 2 * self.bytes_each
        return Cost(stage, items, tokens, seconds, self.weights * self.bytes_each * 1.1 + cache)


def _speed() -> float:
    """Floating-point operations a second of a matrix product of a language model's size: the best of a moment."""
    one = torch.randn(256, 1024, device=best_device(), dtype=best_dtype())
    other = torch.randn(1024, 1024, device=best_device(), dtype=best_dtype())
    (one @ other).sum().item()
    best, started = float("inf"), time.perf_counter()
    while (begun := time.perf_counter()) - started < 0.3:
        (one @ other).sum().item()
        best = min(best, time.perf_counter() - begun)
    return 2 * 256 * 1024 * 1024 / best


def describe(costs: list[Cost]) -> Table:
    """The estimate as a table for the terminal."""
    table: Any = Table("stage", "what", "tokens", "time", "memory", title="Estimate (within a factor of two)")
    for cost in costs:
        table.add_row(
            cost.stage,
            cost.items,
            f"{cost.tokens:,.0f}" if cost.tokens else "",
            _time(cost.seconds),
            _size(cost.memory),
        )
    table.add_row("all", "", "", _time(sum(c.seconds for c in costs)), _size(max(c.memory for c in costs)))
    return table  # type: ignore[no-any-return]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(memory: float) -> str:
    return f"{memory / 2**30:.1f} GiB" if memory else ""
