"""The stages after training: what every set-up says, what is in it, and the report."""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

from nescio.core.errors import NescioError
from nescio.core.files import write_json, write_jsonl
from nescio.core.guidance import Guidance
from nescio.core.models import identity, load_tokenizer, read_sentences
from nescio.data.formats import read_dialogs
from nescio.data.samples import Sample, subsample
from nescio.engines.base import Answer, Engine, Progress, Request
from nescio.engines.openai_engine import OpenAIEngine
from nescio.engines.torch_engine import load
from nescio.evaluation.kept import Kept
from nescio.evaluation.measure import Plan
from nescio.evaluation.measures import choices, harmless, slot_attack
from nescio.evaluation.measures.choices import Question
from nescio.evaluation.measures.judge import Judge
from nescio.evaluation.measures.leakage import own_pieces
from nescio.evaluation.run import Subject
from nescio.evaluation.run import evaluate as tabulate
from nescio.evaluation.setups import Setup, baselines, guided_setups
from nescio.pipeline.context import Context, Tick
from nescio.pipeline.recipe import EvaluateSection, RowSection
from nescio.pipeline.too_long import of_setups, with_room
from nescio.report import figures, html


def evaluate(run: Context, folder: Path, tick: Tick) -> None:
    """Every row's answers to the held-out samples, counted and weighed; `kept` in the run folder outlives the table."""
    setups = _setups(run)
    plan = _plan(run, setups)
    dialogs = {dialog.id: dialog for dialog in read_dialogs(run.out / "data/test.jsonl")}
    own = [own_pieces(dialogs[sample.dialog_id], run.detector) for sample in plan.samples]
    subject = Subject(setups, plan, own, run.recipe.base, run.recipe.pairs.positive)
    judge = judge_of(run.recipe.evaluate, run.out / "verdicts.jsonl")
    with closing(judge.engine) if judge else nullcontext():
        rows, answers = tabulate(subject, run.detector, Kept(run.out / "kept"), tick, judge)
    for name, answered in answers.items():
        write_jsonl(folder / f"eval/{name}.jsonl", answered)
    write_json(folder / "eval/results.json", rows)


def report(run: Context, folder: Path, tick: Tick) -> None:
    """Figures and the page."""
    figures.draw(run.out)
    tick(1, 2, "figures")
    html.write(run.out)


def _plan(run: Context, setups: Sequence[Setup]) -> Plan:
    section, seed = run.recipe.evaluate, run.recipe.seed
    held = run.samples("test")
    samples = subsample(held, section.samples, seed)
    if not samples:
        raise NescioError(f"{run.out}/samples/test.jsonl: holds no samples; run the samples stage again")
    _say_if_fewer(run, "samples", section.samples, len(samples))
    samples = with_room(samples, of_setups(setups, section.max_tokens, section.vllm), run.note)
    questions, attacked = utility_questions(section, seed), _attacked(run)
    _say_if_fewer(run, "drawn samples", section.drawn if section.draws else 0, len(samples))
    _say_if_fewer(run, "attacked samples", section.attacked, len(attacked))
    _say_if_fewer(run, "questions", section.question_count or 0, len(questions))
    _say_if_fewer(run, "harmless prompts", section.harmless, len(harmless.harmless_prompts(section.harmless)))
    return Plan(
        samples, section.max_tokens, section.draws, section.drawn, questions, section.harmless, attacked,
        questions if section.judge else [], seed, section.engine, section.vllm,
    )  # fmt: skip


def _say_if_fewer(run: Context, what: str, wanted: int, there: int) -> None:
    if there < wanted:
        run.note(f"{wanted} {what} asked for, {there} there are; all are used")


def _attacked(run: Context) -> list[Sample]:
    """The training samples whose slots are attacked, as the attacker has them: their dialogs' own pieces masked."""
    count = run.recipe.evaluate.attacked
    samples = subsample(run.samples("train"), count, run.recipe.seed) if count else []
    wanted = {sample.dialog_id for sample in samples}
    dialogs = (dialog for dialog in read_dialogs(run.out / "data/train.jsonl") if dialog.id in wanted)
    pieces = {dialog.id: own_pieces(dialog, run.detector) for dialog in dialogs} if samples else {}
    return [slot_attack.scrubbed(sample, pieces[sample.dialog_id]) for sample in samples]


def utility_questions(section: EvaluateSection, seed: int) -> list[Question]:
    """The questions that utility is measured by."""
    if section.question_count == 0:
        return []
    plain = section.questions == "plain"
    found = choices.plain_questions() if plain else choices.mmlu_pro(section.questions)
    if section.question_count is None or section.question_count >= len(found):
        return found
    return random.Random(seed).sample(found, section.question_count)


def judge_of(section: EvaluateSection, verdicts: Path) -> Judge | None:
    """The judge that a recipe names, if any; to be closed.

    Args:
        section: Of the recipe.
        verdicts: Where they stay, outside of any stage, so that another evaluation does not ask again.
    """
    named = section.judge
    if named is None:
        return None
    if not named.is_endpoint:
        load_tokenizer(named.model)  # a name that is wrong is told now, not when all rows are measured
        return Judge(named.model, cast(Engine, _Later(named.model)), verdicts, identity(named.model))
    engine = OpenAIEngine(named.model, named.base_url, named.key_env)
    return Judge(named.model, engine, verdicts, f"{named.model} at {named.base_url}")


class _Later:
    """As much of an engine as a judge asks for. The model is loaded by the first question, when the rows' are gone."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._engine: Engine | None = None

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Answer]:
        """Answer all requests, in their order."""
        if self._engine is None:
            self._engine = load(self._model)
        return self._engine.generate(requests, progress)

    def close(self) -> None:
        """Let go of the model, if it was loaded."""
        if self._engine is not None:
            self._engine.close()


def _setups(run: Context) -> list[Setup]:
    section, sentences = run.recipe.evaluate, run.recipe.pairs
    plain = Guidance(1.0, "prob", sentences.positive, sentences.negative)
    variants = [plain, *(replace(plain, plausibility=tau) for tau in section.plausibility)]
    variants += [replace(plain, adaptive=True)] if section.adaptive else []
    tuned = Setup("tuned", "tuned", run.tuned)
    trained = Setup("trained", "trained", run.start, str(run.out / "adapter"), plain)
    setups = [tuned, replace(tuned, name="tuned-protect", model="tuned + protect prompt", guidance=plain)]
    setups += baselines(tuned, sentences.positive, sentences.negative) if section.baselines else []
    setups += [] if run.start == run.tuned else [Setup("subtracted", "subtracted", run.start)]
    setups += [trained, *guided_setups(trained, section.scales, section.spaces, variants)]
    setups += [_row(run, row) for row in section.rows]
    names = Counter(setup.name for setup in setups)
    if (twice := names.most_common(1)[0])[1] > 1:
        raise NescioError(f"evaluate.rows: name {twice[0]!r} is taken by another row; choose one of its own")
    return setups


def _row(run: Context, row: RowSection) -> Setup:
    """A row of the recipe; a sentence that it does not name is its adapter's, or else the run's. "" is none."""
    named = {"positive": row.positive, "negative": row.negative}
    sentences = {"positive": run.recipe.pairs.positive, "negative": run.recipe.pairs.negative}
    sentences |= read_sentences(Path(row.adapter)) if row.adapter else {}
    sentences |= {name: sentence for name, sentence in named.items() if sentence is not None}
    guidance = Guidance(row.scale, row.space, **sentences, plausibility=row.plausibility, adaptive=row.adaptive)
    return Setup(
        row.name, row.name, row.model or run.tuned, row.adapter, guidance if row.protect or guidance.guided else None,
        row.system, row.nudge, row.mask,
    )  # fmt: skip
