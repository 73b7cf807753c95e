"""Samples that a model has no room for: left out before it is asked, and told of. One must not end a whole run."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from nescio.data.samples import Sample
from nescio.data.strategies import Strategy, prompt_for
from nescio.engines.base import Request
from nescio.engines.room import Room
from nescio.errors import NescioError
from nescio.evaluation.setups import Setup
from nescio.recipe import Recipe

Asking = tuple[str, Callable[[Sample], Request]]
"""A model, and what it is asked about a sample."""
_NAMED = 3


def with_room(samples: Sequence[Sample], askings: Iterable[Asking], note: Callable[[str], None]) -> list[Sample]:
    """The samples that every model can be asked about.

    Args:
        samples: All of them.
        askings: Each way of asking.
        note: Told how many are left out, and which are the first.

    Raises:
        NescioError: There are samples, and none can be asked about.
    """
    askings = list(askings)
    rooms = {model: Room(model) for model in dict.fromkeys(model for model, _ in askings)}
    kept = [sample for sample in samples if all(rooms[model].serves(ask(sample)) for model, ask in askings)]
    if samples and not kept:
        context = min(room.context for room in rooms.values())
        raise NescioError(
            f"{samples[0].id}: with its answer longer than the engine's cache, or the model's context of {context} "
            f"tokens, as are all {len(samples)} samples; shorten the dialogs"
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


def of_sources(recipe: Recipe) -> Iterable[Asking]:
    """How the recipe's local sources are asked; endpoints tell by themselves what they have no room for."""
    section = recipe.generate
    for source in section.sources:
        for strategy in source.strategies if not source.is_endpoint else ():
            yield source.model or recipe.base, partial(_rewritten, strategy, section.max_tokens)


def of_setups(setups: Iterable[Setup], max_tokens: int) -> Iterable[Asking]:
    """How set-ups ask; those whose prompts are alike stand for each other."""
    alike = {}
    for setup in setups:
        guidance = setup.guidance
        sentences = guidance and (guidance.positive, guidance.negative, guidance.guided)
        alike[setup.source, setup.nudge, setup.system, sentences] = setup
    for setup in alike.values():
        yield setup.source, partial(_answered, setup, max_tokens)


def _rewritten(strategy: Strategy, max_tokens: int, sample: Sample) -> Request:
    return Request(prompt_for(sample, strategy, None), max_tokens=max_tokens)


def _answered(setup: Setup, max_tokens: int, sample: Sample) -> Request:
    return Request(setup.asked(sample.messages), setup.guidance, max_tokens=max_tokens)
