"""All that is measured of a table's set-ups: each model is loaded once, asked everything, and let go.

Every piece is kept under what was asked of which set-up, so that an evaluation that was cut off goes on, and a table
with one more row asks for that row alone. Knows samples, engines, detectors and the measures of this room; nothing of
training.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from nescio.core.files import fingerprint
from nescio.core.models import identity, load_tokenizer, release
from nescio.data.samples import Sample
from nescio.engines.base import Engine
from nescio.engines.registry import EngineKind, open_engine
from nescio.evaluation.kept import Kept
from nescio.evaluation.measures import choices, harmless, leakage, slot_attack
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.measures.quality import masked
from nescio.evaluation.setups import Setup
from nescio.pii.base import Detector

_TOGETHER = 22  # samples, prompts or slots asked about before their answers are on the disk
_QUESTIONS_TOGETHER = 40
_REMOVED = "[removed]"  # what an output filter writes; a recogniser takes "[PII]" for a name

Tick = Callable[[int, int, str], None]
Identities = Mapping[str, Any]
"""What decides a set-up's answers, by its name: content, not places, so that a folder that moved is not asked again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. An empty list, or 0, leaves a measure out.

    Attributes:
        samples: Answered greedily, as in the paper.
        max_tokens: Most tokens of an answer.
        draws: Answers sampled at temperature 1 to each of the first `drawn` samples, for leak@k.
        drawn: How many samples those are.
        questions: Whose options are scored.
        harmless: How many harmless prompts are answered, for divergence and over-refusal.
        attacked: Samples whose slots are attacked, scrubbed: what the tuned model has learned.
        judged: Questions that are answered in words, for a judge.
        seed: Of all sampling.
        engine: Which kind of engine is asked.
        options: Of vLLM's `EngineArgs`.
    """

    samples: Sequence[Sample]
    max_tokens: int
    draws: int = 0
    drawn: int = 0
    questions: Sequence[Question] = ()
    harmless: int = 0
    attacked: Sequence[Sample] = ()
    judged: Sequence[Question] = ()
    seed: int = 0
    engine: EngineKind = "torch"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Measured:
    """What was found of one set-up.

    Attributes:
        answers: One a sample.
        draws: The sampled answers, `[samples][draws]`.
        picks: The option chosen for each question.
        harmless: Answers to harmless prompts, each with the log-probabilities of its tokens.
        attacks: Continuations of the attack.
        replies: Answers in words to questions.
        divergence: Mean KL per token from the tuned model; None where it was not measured, or their tokens differ.
        filter_seconds: What the output filter took for an answer, if there is one.
    """

    answers: list[str] = field(default_factory=list)
    draws: list[list[str]] = field(default_factory=list)
    picks: list[int] = field(default_factory=list)
    harmless: list[tuple[str, list[float]]] = field(default_factory=list)
    attacks: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    divergence: float | None = None
    filter_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Ask:
    """A piece of work: the field of `Measured` it fills, what decides its result, and what is done for it."""

    fills: str
    decides: Any
    work: Callable[[Engine, Sequence[Setup]], Any]


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be measured, by whom, and where it goes: `kept` on the disk, `found` by the set-ups' names."""

    setups: Sequence[Setup]
    plan: Plan
    kept: Kept
    engines: "_Engines"
    told: Identities
    found: Mapping[str, Measured]


def measure(setups: Sequence[Setup], plan: Plan, detector: Detector, kept: Kept, tick: Tick) -> dict[str, Measured]:
    """Measure set-ups.

    Args:
        setups: The tuned model first; names are unique.
        plan: What is measured.
        detector: Of output filters.
        kept: Where results go.
        tick: Called with pieces done, pieces in all, and a word.

    Returns:
        What was found, by the set-ups' names.
    """
    found = {setup.name: Measured() for setup in setups}
    with closing(_Engines(plan)) as engines:
        work = _Work(setups, plan, kept, engines, _identities(setups), found)
        _ask_all(work, tick)
        if plan.harmless:
            tick(1, 1, "divergence from the tuned model")
            _diverge(work)
    for setup in setups:
        if setup.masks:
            _filter(found[setup.name], plan, detector)
    return found


def _ask_all(work: _Work, tick: Tick) -> None:
    """Every piece of work for every set-up, a model at a time; what is not kept is asked for together."""
    sources, asks = list(dict.fromkeys(setup.source for setup in work.setups)), list(_asks(work.plan))
    for order, source in enumerate(sources):
        own = [setup for setup in work.setups if setup.source == source]
        for number, ask in enumerate(asks):
            tick(order * len(asks) + number, len(sources) * len(asks), f"{ask.fills} of {len(own)} set-ups")
            asked = [[work.engines.identity, ask.decides, work.told[setup.name]] for setup in own]
            given = work.kept.get(ask.fills, asked, partial(_done, ask, work.engines, own))
            for setup, results in zip(own, given, strict=True):
                getattr(work.found[setup.name], ask.fills).extend(results)


def _asks(plan: Plan) -> Iterator[_Ask]:
    """The pieces of work that each model is asked, in order."""
    tokens, seed = plan.max_tokens, plan.seed
    for samples in _pieces(plan.samples, _TOGETHER):
        work = partial(leakage.answer, samples=samples, max_tokens=tokens)
        yield _Ask("answers", [_ids(samples), tokens], work)
    for samples in _pieces(plan.samples[: plan.drawn] if plan.draws else (), 1):
        drawing = partial(leakage.draw, samples=samples, draws=plan.draws, max_tokens=tokens, seed=seed)
        yield _Ask("draws", [_ids(samples), plan.draws, tokens, seed], drawing)
    for questions in _pieces(plan.questions, _QUESTIONS_TOGETHER):
        yield _Ask("picks", [asdict(q) for q in questions], partial(choices.choose, questions=questions))
    if plan.harmless:
        prompts = harmless.harmless_prompts(plan.harmless)
        yield _Ask("harmless", [prompts, seed], partial(harmless.answer, prompts=prompts, seed=seed))
    for samples in _pieces(plan.attacked, _TOGETHER):
        leads = [slot_attack.lead(sample) for sample in samples]
        yield _Ask("attacks", [_ids(samples), leads], partial(_attack, samples=samples))
    for questions in _pieces(plan.judged, _TOGETHER):
        reply = partial(choices.reply, questions=questions, max_tokens=tokens)
        yield _Ask("replies", [[asdict(q) for q in questions], tokens], reply)


def _done(ask: _Ask, engines: "_Engines", setups: Sequence[Setup], missing: Sequence[int]) -> Any:
    return ask.work(engines.of(setups), [setups[number] for number in missing])


def _attack(engine: Engine, setups: Sequence[Setup], samples: Sequence[Sample]) -> list[list[str]]:
    return slot_attack.attack(engine, load_tokenizer(setups[0].source), setups, samples)


def _diverge(work: _Work) -> None:
    """Score every set-up's harmless answers under the tuned model, whose engine is asked for all of them together."""
    tuned, prompts, engines = work.setups[0], harmless.harmless_prompts(work.plan.harmless), work.engines
    texts = [[text for text, _ in work.found[setup.name].harmless] for setup in work.setups]
    scores = work.kept.get(
        "tuned",
        [[engines.identity, prompts, said, work.told[tuned.name]] for said in texts],
        lambda missing: harmless.score(engines.of([tuned]), tuned, prompts, [texts[number] for number in missing]),
    )
    for setup, said, under_tuned in zip(work.setups, texts, scores, strict=True):
        own = [scored for _, scored in work.found[setup.name].harmless]
        if not setup.masks and _cut_alike(setup.source, tuned.source, said):
            work.found[setup.name].divergence = harmless.divergence(own, under_tuned)


def _cut_alike(source: str, tuned: str, texts: Sequence[str]) -> bool:
    return source == tuned or harmless.cut_alike(load_tokenizer(source), load_tokenizer(tuned), texts)


def _filter(found: Measured, plan: Plan, detector: Detector) -> None:
    """What is left of a set-up's texts behind its output filter, and what the filter takes."""

    def shown(texts: list[str]) -> list[str]:
        spans = detector.find(texts)
        return [masked(text, own, _REMOVED) for text, own in zip(texts, spans, strict=True)]

    started = time.perf_counter()
    found.answers = shown(found.answers)
    found.filter_seconds = (time.perf_counter() - started) / max(len(found.answers), 1)
    found.draws = [shown(texts) for texts in found.draws]
    found.attacks, found.replies = shown(found.attacks), shown(found.replies)
    texts = shown([text for text, _ in found.harmless])
    found.harmless = [(text, scored) for text, (_, scored) in zip(texts, found.harmless, strict=True)]
    picked = [question.options[pick] for question, pick in zip(plan.questions, found.picks, strict=True)]
    kept = [text == option for text, option in zip(shown(picked), picked, strict=True)]
    found.picks = [pick if whole else choices.NONE for pick, whole in zip(found.picks, kept, strict=True)]


class _Engines:
    """One engine at a time: the last that was asked for."""

    def __init__(self, plan: Plan) -> None:
        self.identity = [plan.engine, plan.options]  # decides answers too: options may set the weights' type
        self._kind, self._options = plan.engine, plan.options
        self._key: Any = None
        self._engine: Engine | None = None

    def of(self, setups: Sequence[Setup]) -> Engine:
        """The engine of a source with all adapters that these set-ups attach."""
        adapters = {setup.attached: Path(setup.adapter) for setup in setups if setup.attached and setup.adapter}
        key = (setups[0].source, adapters)
        if self._engine is None or self._key != key:
            self.close()
            self._engine, self._key = open_engine(self._kind, setups[0].source, adapters, self._options), key
        return self._engine

    def close(self) -> None:
        """Let go of the engine."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None
        release()


def _identities(setups: Sequence[Setup]) -> Identities:
    weights = cache(identity)  # for this table alone: what a folder holds may change between two
    return {
        setup.name: [weights(setup.source), setup.adapter and weights(setup.adapter), _how(setup)] for setup in setups
    }


def _how(setup: Setup) -> dict[str, Any]:
    """How a set-up is asked, whatever it is called and whatever is done with its answers."""
    how = asdict(setup)
    for name in ("name", "model", "source", "adapter", "masks", "epoch"):
        del how[name]
    return how


def _ids(samples: Sequence[Sample]) -> list[list[str]]:
    return [[sample.id, fingerprint(asdict(sample))] for sample in samples]


def _pieces(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
