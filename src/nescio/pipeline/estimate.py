"""Estimate what a run will take: tokens, time and memory of each stage, from the recipe and the model's shape.

Some dialogs are tokenized and this machine's speed is measured for a moment; no model is run. Times are rough: within
a factor of two.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from rich.table import Table

from nescio.core.errors import NescioError
from nescio.core.model_source import resolve
from nescio.core.models import best_device, best_dtype, load_tokenizer
from nescio.core.prompts import encode, render
from nescio.data.samples import samples_of
from nescio.pii.registry import load_detector
from nescio.pipeline.evaluate import measures
from nescio.pipeline.prepare import dialogs_of
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.sections import BakeSection, EvaluateSection, TrainSection, TuneSection

_COUNTED = 200  # dialogs that are tokenized; their counts are scaled to all dialogs
_MEASURED = 64  # samples whose prompts and answers are tokenized
# Floating-point operations for each weight and token. Training: forward, and backward without weight gradients.
_TRAIN_FLOPS, _RECOMPUTE_FLOPS, _DECODE_FLOPS = 4.0, 2.0, 2.0
_TRAIN_SHARE, _DECODE_SHARE = 0.65, 0.30  # of the speed of a bare matrix product, measured on two CPU cores
_ACTIVATIONS = 40  # floats kept for the backward pass, for each token, layer and hidden unit
_DECODED_ROWS = 32  # rows of a batch while decoding
_ANCHORS_ASKED = 3.0  # prompts that the base writes for one that is used


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one stage.

    Attributes:
        stage: Name of the stage.
        items: What is processed, in words.
        tokens: Number of tokens.
        seconds: Time.
        memory: Most memory, in bytes.
    """

    stage: str
    items: str
    tokens: float = 0
    seconds: float = 0
    memory: float = 0


def estimate(recipe: Recipe) -> list[Cost]:
    """Return the cost of each stage of a recipe.

    Raises:
        NescioError: The dialogs, the detector or the model cannot be found.
    """
    size, model = _Size.of(recipe), _Model.of(recipe.base)
    written, evaluated = recipe.generate, recipe.evaluate
    # 1) Dialogs.
    costs = [Cost("data", f"{size.dialogs} dialogs", size.dialogs * size.dialog)]
    if recipe.tune:
        tuned_on = size.dialogs * (1 - recipe.data.test_share)
        costs.append(model.training("tune", f"{tuned_on:.0f} dialogs", tuned_on, size.dialog, recipe.tune))
    costs.append(Cost("samples", f"{size.train + size.held_out:.0f} samples"))
    # 2) Replacement answers: the first is assumed to take (1 + tries) / 2 tries, each further one a try. Where the best
    # of several is chosen, the base weighs them twice.
    tries = min(written.best_of - 1 + (1 + written.tries) / 2, written.tries)
    tries += 2 * written.best_of if written.best_of > 1 else 0
    here, elsewhere = (_answers_per_sample(recipe, at_endpoints=there) for there in (False, True))
    asked = (size.train + size.validation) * tries
    items = f"{asked * here:.0f} answers"
    items += f", {asked * elsewhere:.0f} at endpoints (their time not counted)" if elsewhere else ""
    costs.append(model.decoding("candidates", items, asked * here, size.prompt + written.max_tokens))
    # 3) Training on pairs: a prompt, the chosen and the rejected answer in each.
    beside = (1 + recipe.pairs.paraphrases) * (1 + recipe.pairs.asked)  # further pairs, with what stands beside them
    questions = sum(source.share for source in written.sources if "paraphrase" in source.strategies)
    pairs = size.train * (here + elsewhere - questions) * beside * (2 if recipe.pairs.twins else 1)
    pair = size.prompt + size.answer + min(written.max_tokens, 2 * size.answer)
    # 4) Anchors: the base writes prompts, the tuned model answers; in training each stands under both sentences.
    held, anchor, anchored = recipe.train.anchors, 0.0, 0.0
    if held:
        anchor = size.prompt + held.max_tokens / 2
        asked = held.count * (_ANCHORS_ASKED + 1)
        costs.append(model.decoding("anchors", f"{held.count} prompts", asked, 2 * held.max_tokens))
        anchored = held.per_step * anchor  # for each pair: a step is a pair and its twin, an anchor stands under both
    costs.append(model.training("train", f"{pairs:.0f} pairs", pairs, pair + anchored, recipe.train))
    # 5) Baking: answers, of the teacher and then of the student, the teacher's view of them, and the student's steps.
    if baking := recipe.bake:
        taught = min(size.train, baking.samples or size.train) * baking.draws * baking.rounds
        length = size.prompt + min(baking.max_tokens, 2 * size.answer)
        given = model.decoding("", "", 2 * taught, length)
        items, each = f"{taught:.0f} answers", length + anchor * baking.anchors_per_step / baking.batch_size
        steps = model.training("bake", items, taught, each, baking)
        costs.append(replace(steps, tokens=steps.tokens + given.tokens, seconds=steps.seconds + given.seconds))
    # 6) Every row of the table answers the samples and what the measures ask; a guided row counts twice.
    samples = min(evaluated.samples, size.held_out)
    answers = (_rows(evaluated) + (recipe.bake is not None)) * (
        samples + sum(measure.cost(samples) for measure in measures(evaluated))
    )
    costs.append(model.decoding("evaluate", f"{answers:.0f} answers", answers, size.prompt + evaluated.max_tokens))
    return costs


def _rows(section: EvaluateSection) -> int:
    variants = 1 + len(section.plausibility) + section.adaptive
    guided = len(section.scales) * len(section.spaces) * variants
    return 3 + 2 * guided + len(section.rows) + 4 * section.baselines


def _answers_per_sample(recipe: Recipe, at_endpoints: bool) -> float:
    """Return how many answers the recipe's sources, at endpoints or here, write for each sample.

    A strategy that skips samples, as the chat strategies do, is counted as if it did not.
    """
    sources = [source for source in recipe.generate.sources if source.is_endpoint == at_endpoints]
    return sum(len(source.strategies) * source.share for source in sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Numbers of dialogs and samples, and the mean tokens of a dialog, a sample's prompt and its answer."""

    dialogs: int
    train: float
    held_out: float
    validation: float
    dialog: float
    prompt: float
    answer: float

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        # The run reports bad rows; the estimate skips them.
        dialogs = list(dialogs_of(recipe, refuse=lambda error, row: None))
        if not dialogs:
            raise NescioError(f"{recipe.data.dialogs}: no dialog can be read; `nescio run` names the bad rows")
        tokenizer = load_tokenizer(recipe.base)
        counted = dialogs[:_COUNTED]
        detector = load_detector(recipe.detector.model, **recipe.detector.model_dump(exclude={"model"}))
        found = list(samples_of(counted, detector))
        samples, held_out = len(found) * len(dialogs) / len(counted), recipe.data.test_share
        train, test = samples * (1 - held_out), samples * held_out
        return cls(
            dialogs=len(dialogs),
            train=min(train, recipe.data.train_samples or train),
            held_out=test,
            validation=min(test, recipe.data.validation_samples or samples),
            dialog=_mean([len(encode(tokenizer, render(tokenizer, dialog.messages))) for dialog in counted]),
            prompt=_mean([len(encode(tokenizer, render(tokenizer, s.messages))) for s in found[:_MEASURED]]),
            answer=_mean([len(tokenizer(s.rejected).input_ids) for s in found[:_MEASURED]]),
        )


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / max(len(numbers), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A model's shape, and this machine's speed in floating-point operations a second."""

    weights: int
    layers: int
    hidden: int
    vocab: int
    bytes_each: int
    speed: float

    @classmethod
    def of(cls, model: str) -> Self:
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.from_pretrained(resolve(model))
        with torch.device("meta"):
            bare: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        return cls(
            weights=sum(parameter.numel() for parameter in bare.parameters()),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            vocab=config.vocab_size,
            bytes_each=best_dtype().itemsize,
            speed=_speed(),
        )

    def training(
        self, stage: str, items: str, rows: float, length: float, how: TuneSection | TrainSection | BakeSection
    ) -> Cost:
        """Return the cost of training on rows of a mean length, in tokens."""
        tokens = rows * length * how.epochs
        flops, kept = _TRAIN_FLOPS, float(self.layers * _ACTIVATIONS)
        if how.gradient_checkpointing:
            # The input of each layer is kept, and all activations of the one layer that is being recomputed.
            flops, kept = flops + _RECOMPUTE_FLOPS, self.layers + _ACTIVATIONS
        seconds = tokens * flops * self.weights / (self.speed * _TRAIN_SHARE)
        activations = how.batch_size * length * (kept * self.hidden * self.bytes_each + 3 * self.vocab * 4)
        return Cost(stage, items, tokens, seconds, self.weights * self.bytes_each * 1.3 + activations)

    def decoding(self, stage: str, items: str, answers: float, length: float) -> Cost:
        """Return the cost of answers; `length` is the tokens of prompt and answer."""
        seconds = answers * length * _DECODE_FLOPS * self.weights / (self.speed * _DECODE_SHARE)
        cache = _DECODED_ROWS * length * self.layers * self.hidden * 2 * self.bytes_each
        return Cost(stage, items, answers * length, seconds, self.weights * self.bytes_each * 1.1 + cache)


def _speed() -> float:
    """Return the operations a second of a matrix product of a language model's size: the fastest in 0.3 seconds."""
    one = torch.randn(256, 1024, device=best_device(), dtype=best_dtype())
    other = torch.randn(1024, 1024, device=best_device(), dtype=best_dtype())
    (one @ other).sum().item()
    fastest, started = float("inf"), time.perf_counter()
    while (begun := time.perf_counter()) - started < 0.3:
        (one @ other).sum().item()
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * 256 * 1024 * 1024 / fastest


def describe(costs: list[Cost]) -> Table:
    """Return the estimate as a table for the terminal."""
    table = Table("stage", "what", "tokens", "time", "memory", title="Estimate (within a factor of two)")
    for cost in costs:
        tokens = f"{cost.tokens:,.0f}" if cost.tokens else ""
        table.add_row(cost.stage, cost.items, tokens, _time(cost.seconds), _memory(cost.memory))
    seconds, memory = sum(cost.seconds for cost in costs), max(cost.memory for cost in costs)
    table.add_row("all", "", "", _time(seconds), _memory(memory))
    return table


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _memory(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size else ""
