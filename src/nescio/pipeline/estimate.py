"""Estimate what a run will take: tokens, time and memory of each stage, from the recipe and the model's shape.

Some dialogs are tokenized and this machine's speed is measured for a moment; no model is run. Times are rough: within
a factor of two.
"""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from nescio.core.errors import NescioError
from nescio.core.model_size import ModelSize
from nescio.core.models import best_device, best_dtype, load_tokenizer, multiplies_bf16, size_of
from nescio.core.prompts import encode, render
from nescio.core.quantization import QUANTIZATIONS, Quantization
from nescio.data.conversations import Conversations
from nescio.data.dialogs import Dialog, held_out
from nescio.data.read_dialogs import read_dialogs
from nescio.data.samples import samples_of
from nescio.engines.torch_engine import CACHE_TOKENS
from nescio.pipeline.evaluate import measures
from nescio.pipeline.evaluate_sections import EvaluateSection
from nescio.pipeline.prepare import dialogs_of
from nescio.pipeline.recipe import Recipe
from nescio.pipeline.train_sections import BakeSection, TrainSection, TuneSection
from nescio.training.memory import Load, training_bytes

_COUNTED = 200  # dialogs that are tokenized; their counts are scaled to all dialogs
_MEASURED = 64  # samples whose prompts and answers are tokenized
# Floating-point operations for each weight and token. Training: forward, and backward without weight gradients.
_TRAIN_FLOPS, _RECOMPUTE_FLOPS, _DECODE_FLOPS = 4.0, 2.0, 2.0
_TRAIN_SHARE, _DECODE_SHARE = 0.65, 0.30  # of the speed of a bare matrix product, measured on two CPU cores
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
        on_gpu: The same with weights in bf16, and for a training with its base in each quantised form.
    """

    stage: str
    items: str
    tokens: float = 0
    seconds: float = 0
    memory: float = 0
    on_gpu: Mapping[str, float] = field(default_factory=dict)


def estimate(recipe: Recipe, stages: Container[str] | None = None) -> list[Cost]:
    """Return the cost of each stage of a recipe.

    Args:
        recipe: The recipe.
        stages: Names of the stages that are asked for; None takes all.

    Raises:
        NescioError: The dialogs, the detector or the model cannot be found, or one side of the split would be empty.
    """
    return [cost for cost in _costs(recipe) if stages is None or cost.stage in stages]


def _costs(recipe: Recipe) -> list[Cost]:
    size = _Size.of(recipe)
    model = _Model.of(recipe.base)
    written = recipe.generate
    # 1) Dialogs.
    split = f"{size.dialogs} dialogs, {size.trained} to train on, {size.tested} held out"
    costs = [Cost("data", split, (size.trained + size.tested) * size.dialog)]
    if recipe.tune:
        step = _step(recipe.tune, min(size.longest_dialog, recipe.tune.max_length), size.answer, recipe.tune.lora.r)
        costs.append(
            model.training(
                "tune", f"{size.trained} dialogs", size.trained, size.dialog, recipe.tune, step, recipe.tune.quantize
            )
        )
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
    answers = size.answer + min(written.max_tokens, 2 * size.answer)
    # 4) Anchors: the base writes prompts, the tuned model answers.
    section = recipe.train
    held, anchor, anchored = section.anchors, 0.0, 0.0
    if held:
        anchor = size.prompt + held.max_tokens / 2
        asked = held.count * (_ANCHORS_ASKED + 1)
        costs.append(model.decoding("anchors", f"{held.count} prompts", asked, 2 * held.max_tokens))
        anchored = held.per_step * anchor / section.batch_size  # for each pair or twin
    longest = min(size.longest_prompt, section.max_prompt_length) + answers + anchored
    scored = longest if section.nll_over == "prompt_and_answer" else answers + anchored
    step = _step(section, longest, scored, section.lora.r)
    length = size.prompt + answers + anchored
    costs.append(model.training("train", f"{pairs:.0f} pairs", pairs, length, section, step, section.quantize))
    # 5) Baking: answers, of the teacher and then of the student, the teacher's view of them, and the student's steps.
    if baking := recipe.bake:
        samples = min(size.train, baking.samples or size.train) * baking.rounds
        answered, recorded = samples * baking.draws, samples if baking.strike_out else 0
        length = size.prompt + min(baking.max_tokens, 2 * size.answer)
        more = baking.more_anchors if held else 0
        anchored = (held.count + more) * (baking.rounds - 1) if held else 0  # the student answers each
        asked = more * (_ANCHORS_ASKED + 1)  # made up as those of the stage before
        given = model.decoding("", "", 2 * (answered + anchored) + recorded + asked, length)
        items, beside = f"{answered + recorded:.0f} answers", anchor * baking.anchors_per_step / baking.batch_size
        step = _step(baking, length - size.prompt + size.longest_prompt + beside, length - size.prompt, section.lora.r)
        steps = model.training("bake", items, answered + recorded, length + beside, baking, step, section.quantize)
        costs.append(replace(steps, tokens=steps.tokens + given.tokens, seconds=steps.seconds + given.seconds))
    # 6) Evaluation.
    costs.append(_evaluation(recipe, size, model))
    return costs


def _step(how: TuneSection | TrainSection | BakeSection, longest: float, scored: float, rank: int) -> Load:
    return Load(
        tokens=how.batch_size * longest, scored=how.batch_size * scored, rank=rank,
        checkpointing=how.gradient_checkpointing,
    )  # fmt: skip


def _evaluation(recipe: Recipe, size: "_Size", model: "_Model") -> Cost:
    """Every row of the table answers the samples and what the measures ask; a guided row counts twice."""
    section = recipe.evaluate
    samples = min(section.samples, size.held_out)
    asked = [(samples, section.max_tokens)]
    for measure in measures(section):
        asked.append((measure.cost(samples), section.max_tokens if measure.longest is None else measure.longest))
    answers = sum(count for count, _ in asked)
    length = size.prompt + sum(count * longest for count, longest in asked) / max(answers, 1)
    answers *= _rows(section) + (recipe.bake is not None)
    return model.decoding("evaluate", f"{answers:.0f} answers", answers, length, exact=True)


def answering(model: str, answers: float, length: float) -> Cost:
    """Return the cost of answers of a model; `length` is the mean tokens of a prompt and its answer.

    Raises:
        NescioError: The model cannot be found.
    """
    return _Model.of(model).decoding("audit", f"{answers:.0f} answers", answers, length, exact=True)


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
    """Dialogs and samples of both sides; the tokens of a dialog, a prompt and an answer: means, longest."""

    dialogs: int
    trained: int
    tested: int
    train: float
    held_out: float
    validation: float
    dialog: float
    prompt: float
    answer: float
    longest_dialog: int
    longest_prompt: int

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        dialogs = list(dialogs_of(recipe, refuse=_skip))
        if not dialogs:
            raise NescioError(f"{recipe.data.dialogs}: no dialog can be read; `nescio run` names the bad rows")
        tokenizer = load_tokenizer(recipe.base)
        counted = dialogs[:_COUNTED]
        detector = recipe.detector.load()
        found = list(samples_of(counted, detector))
        trained, tested = _sides(recipe, dialogs)
        train, test = (len(found) / len(counted) * side for side in (trained, tested))
        whole = [len(encode(tokenizer, render(tokenizer, dialog.messages))) for dialog in counted]
        prompts = [len(encode(tokenizer, render(tokenizer, sample.messages))) for sample in found[:_MEASURED]]
        return cls(
            dialogs=len(dialogs),
            trained=trained,
            tested=tested,
            train=min(train, recipe.data.train_samples or train),
            held_out=test,
            validation=min(test, recipe.data.validation_samples or test),
            dialog=_mean(whole),
            prompt=_mean(prompts),
            answer=_mean([len(tokenizer(s.rejected).input_ids) for s in found[:_MEASURED]]),
            longest_dialog=max(whole),
            longest_prompt=max(prompts, default=0),
        )


def _sides(recipe: Recipe, dialogs: Sequence[Dialog]) -> tuple[int, int]:
    """Return how many dialogs the stage `data` will train on, and how many it will hold out."""
    section, known, tested = recipe.data, Conversations(), Conversations()
    if section.test:
        held = sum(1 for _ in tested.new(read_dialogs(section.test, refuse=_skip)))
        if not (left := sum(dialog.messages not in tested for dialog in dialogs)):
            raise NescioError(f"{section.dialogs}: no dialog is left to train on (all stand in data.test); give others")
        return left, held
    numbers = [known.number(dialog.messages) for dialog in dialogs]
    drawn = held_out(len(known), section.test_share, recipe.seed)
    return sum(number not in drawn for number in numbers), len(drawn)


def _skip(error: NescioError, row: Any) -> None:
    """Pass over a bad row: the run reports it."""


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / max(len(numbers), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A model's size, the type of its weights here, and this machine's speed in floating-point operations a second.

    Attributes:
        size: What decides its memory.
        dtype: Type of its weights.
        speed: Speed of products in that type.
        fastest: Speed of products in bf16 where they are faster, as for training and for answers to learn from.
    """

    size: ModelSize
    dtype: torch.dtype
    speed: float
    fastest: float

    @classmethod
    def of(cls, name: str) -> Self:
        """Return a model by its name.

        Raises:
            NescioError: The model cannot be found.
        """
        dtype = best_dtype()
        speed = _speed(dtype)
        fastest = _speed(torch.bfloat16) if multiplies_bf16() and dtype != torch.bfloat16 else speed
        return cls(size=size_of(name), dtype=dtype, speed=speed, fastest=fastest)

    def training(
        self, stage: str, items: str, rows: float, length: float, how: TuneSection | TrainSection | BakeSection,
        step: Load, quantize: Quantization | None,
    ) -> Cost:  # fmt: skip
        """Return the cost of training on rows of a mean length, in tokens; the longest step decides the memory."""
        tokens = rows * length * how.epochs
        flops = _TRAIN_FLOPS + _RECOMPUTE_FLOPS * step.checkpointing
        # On a CPU that multiplies bf16, each adapted weight has a copy in it.
        copies = 2 * self.size.weights if self.dtype == torch.float32 and multiplies_bf16() and not quantize else 0
        return Cost(
            stage, items, tokens, tokens * flops * self.size.weights / (self.fastest * _TRAIN_SHARE),
            training_bytes(self.size, step, self.dtype, quantize) + copies,
            {form or "bf16": training_bytes(self.size, step, torch.bfloat16, form) for form in (None, *QUANTIZATIONS)},
        )  # fmt: skip

    def decoding(self, stage: str, items: str, answers: float, length: float, exact: bool = False) -> Cost:
        """Return the cost of answers; `length` is the tokens of prompt and answer, `exact` of answers to be counted."""
        speed = self.speed if exact else self.fastest
        seconds = answers * length * _DECODE_FLOPS * self.size.weights / (speed * _DECODE_SHARE)

        def memory(dtype: torch.dtype) -> float:
            cache = min(_DECODED_ROWS * length, CACHE_TOKENS) * self.size.layers * self.size.kv * 2 * dtype.itemsize
            return self.size.bytes_of_weights(dtype) * 1.1 + cache

        return Cost(
            stage, items, answers * length, seconds, memory(self.dtype), {"bf16": memory(torch.bfloat16)}
        )  # fmt: skip


def _speed(dtype: torch.dtype) -> float:
    """Return the operations a second of a matrix product of a language model's size: the fastest in 0.3 seconds."""
    one = torch.randn(256, 1024, device=best_device(), dtype=dtype)
    other = torch.randn(1024, 1024, device=best_device(), dtype=dtype)
    (one @ other).sum().item()
    fastest, started = float("inf"), time.perf_counter()
    while (begun := time.perf_counter()) - started < 0.3:
        (one @ other).sum().item()
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * 256 * 1024 * 1024 / fastest
