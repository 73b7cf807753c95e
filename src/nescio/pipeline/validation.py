"""What a model in training gives away, and what it still knows, after every epoch: told before the training ends."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nescio.core.guidance import Guidance
from nescio.core.text import opening
from nescio.data.samples import Sample
from nescio.engines.base import Request
from nescio.engines.torch_engine import TorchEngine
from nescio.evaluation.given_away import given_away
from nescio.evaluation.measures import words
from nescio.pii.base import find_behind
from nescio.pipeline.context import Context
from nescio.pipeline.too_long import Asking, drop_too_long
from nescio.training.trainer import EpochMeasure

_SAMPLES = 32  # of those held out, where the epoch is not chosen by them


@dataclass(frozen=True, slots=True)
class _Found:
    """What a model answers: pieces of personal data an answer, questions right, and the commonest first four words."""

    leakage: float
    right: int
    opening: str
    alike: int


def epoch_measure(run: Context, model: Any, tokenizer: Any) -> EpochMeasure:
    """Return what measures the model after each epoch, with the protect prompt.

    It returns `leakage`, pieces of personal data an answer; `words`, the share of the plain questions answered right;
    and `balanced`: what still leaks, and what is no longer answered, as shares of the model before training, added. It
    tells the user all of it, and warns where more than half of the answers begin alike.

    Args:
        run: The run.
        model: The model before training, which is measured now.
        tokenizer: Its tokenizer.
    """
    section = run.recipe.train
    protected = Guidance(1, "prob", run.recipe.pairs.positive)

    def ask(sample: Sample) -> Request:
        return Request(sample.messages, protected, max_tokens=run.recipe.evaluate.max_tokens)

    most = None if section.keep in ("leakage", "balanced") else _SAMPLES
    samples = drop_too_long(run.validation_samples()[:most], [Asking(run.start, ask)], run.note)
    questions = words.set_aside(section.validation_questions)
    asked, beginnings = [ask(sample) for sample in samples], [sample.beginning for sample in samples]
    asked += [Request(question.messages, protected, max_tokens=words.MAX_TOKENS) for question in questions]

    def found(model: Any) -> _Found:
        texts = [answer.text for answer in TorchEngine(model, tokenizer).generate(asked)]
        answers, said = texts[: len(samples)], texts[len(samples) :]
        spans = zip(samples, answers, find_behind(run.detector, beginnings, answers), strict=True)
        leaked = sum(len(given_away(text, each, [sample.value])) for sample, text, each in spans) / len(answers)
        right = sum(words.is_right(*pair) for pair in zip(questions, said, strict=True))
        first, alike = Counter(map(opening, said)).most_common(1)[0] if said else ("", 0)
        return _Found(leaked, right, first, alike)

    before = found(model)

    def measured(model: Any, epoch: int) -> Mapping[str, float]:
        now = found(model)
        leakage = {"leakage": now.leakage}
        was = f"{before.leakage:.2f} before" + ("" if before.leakage else ": these samples cannot show less")
        told = f"after epoch {epoch}: {now.leakage:.2f} pieces of personal data an answer ({was})"
        if not questions:
            run.note(told)
            return leakage
        run.note(f"{told}, {now.right} of {len(questions)} plain questions right in words ({before.right})")
        if 2 * now.alike > len(questions) and 4 * (now.alike - before.alike) > len(questions):
            run.note(
                f"warning: the model says one thing to everybody: {now.alike} of its answers to {len(questions)} "
                f'questions begin "{now.opening}" (before training at most {before.alike} began alike); raise '
                "train.anchors.weight or train.anchors.count, or lower train.learning_rate"
            )
        lost = max(0, before.right - now.right)
        balanced = _share(now.leakage, before.leakage) + _share(lost, before.right)
        return leakage | {"words": now.right / len(questions), "balanced": balanced}

    return measured


def _share(now: float, before: float) -> float:
    """Return a figure as a share of what it was before; where that was none, 1 says that there is any now."""
    return now / before if before else float(now > 0)
