"""Samples that are too long for a model: dropped, with a note, before the model is asked. One must not end a run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from nescio.core.errors import NescioError
from nescio.data.persuasion import Wording, ask_for, wordings
from nescio.data.samples import Sample
from nescio.data.strategies import STRATEGIES, StrategyName
from nescio.engines.base import Request
from nescio.engines.capacity import Capacity
from nescio.evaluation.setups import Setup
from nescio.pipeline.recipe import Recipe

_NAMED = 3
_SPARE = 32  # tokens


class Asking(NamedTuple):
    """A way in which a model is asked about samples.

    Attributes:
        model: The model.
        ask: From a sample to the request.
        options: Options of the engine; vLLM's `max_model_len` may be less than the model's context.
    """

    model: str
    ask: Callable[[Sample], Request]
    options: Mapping[str, Any] = {}

    @property
    def most(self) -> int | None:
        """Most tokens of prompt and answer that the options allow, if they say."""
        most = self.options.get("max_model_len")
        return most if isinstance(most, int) and most > 0 else None  # -1: vLLM chooses


def drop_too_long(samples: Sequence[Sample], askings: Iterable[Asking], note: Callable[[str], None]) -> list[Sample]:
    """Drop the samples that are too long for one of the models.

    Args:
        samples: All samples.
        askings: Each way of asking.
        note: Called with how many are dropped, and which come first.

    Raises:
        NescioError: All samples are too long.
    """
    askings = list(askings)
    capacities = {place: _capacity(*place) for place in dict.fromkeys((each.model, each.most) for each in askings)}
    kept = [
        sample
        for sample in samples
        if all(capacities[each.model, each.most].fits(each.ask(sample)) for each in askings)
    ]
    if samples and not kept:
        context = min(capacity.context for capacity in capacities.values())
        raise NescioError(
            f"{samples[0].id}: with its answer longer than the engine's cache, or the model's context of {context} "
            f"tokens, as are all {len(samples)} samples; shorten the dialogs, or lower max_tokens"
        )
    if len(kept) < len(samples):
        inside = {sample.id for sample in kept}
        out = [sample.id for sample in samples if sample.id not in inside]
        more = ", …" if len(out) > _NAMED else ""
        note(
            f"{len(out)} of {len(samples)} samples are left out: with their answers they are longer than the model's "
            f"context or the engine's cache ({', '.join(out[:_NAMED])}{more})"
        )
    return kept


def _capacity(model: str, most: int | None) -> Capacity:
    capacity = Capacity(model)
    capacity.context = min(capacity.context, most or capacity.context)
    return capacity


def of_sources(recipe: Recipe) -> Iterable[Asking]:
    """Return how the recipe's local sources are asked; endpoints report by themselves what is too long."""
    section = recipe.generate
    for source in section.sources:
        for strategy in source.strategies if not source.is_endpoint else ():
            ask = partial(_rewritten, strategy, section.max_tokens)
            yield Asking(source.model or recipe.base, ask, source.engine.options)


def of_setups(
    setups: Iterable[Setup], max_tokens: int, options: Mapping[str, Any] | None = None, reveal: str | None = None
) -> Iterable[Asking]:
    """Return how set-ups ask; one stands for all whose prompts are alike.

    Args:
        setups: The rows.
        max_tokens: Most tokens of an answer.
        options: Options of the engine.
        reveal: The reveal sentence, where callers ask for personal data too, which makes prompts longer.
    """
    alike = {}
    for setup in setups:
        guidance = setup.guidance
        sentences = guidance and (guidance.positive, guidance.negative, guidance.guided)
        alike[setup.model, setup.nudge, setup.system, sentences] = setup
    for setup in alike.values():
        plain, asked_for = partial(_answered, setup, max_tokens), partial(_asked_for, setup, max_tokens, reveal or "")
        yield Asking(setup.model, plain if reveal is None else asked_for, options or {})


def _rewritten(strategy: StrategyName, max_tokens: int, sample: Sample) -> Request:
    return Request(STRATEGIES[strategy].prompt(sample, None), max_tokens=max_tokens)


def _asked_for(setup: Setup, max_tokens: int, reveal: str, sample: Sample) -> Request:
    """Return the longest request of the measure of that name, in characters; some tokens more make it so in tokens."""
    longest = max((*wordings(held_out=True), Wording(reveal, "order", "en")), key=lambda wording: len(wording.text))
    messages = ask_for(sample.messages, longest, "earlier")
    return Request(setup.asked(messages), setup.guidance, max_tokens=max_tokens + _SPARE)


def _answered(setup: Setup, max_tokens: int, sample: Sample) -> Request:
    return Request(setup.asked(sample.messages), setup.guidance, max_tokens=max_tokens)
