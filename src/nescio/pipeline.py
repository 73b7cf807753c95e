"""The run: every stage of the way from dialogs to the report, in order. Logic lives in the rooms; here it is joined."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import yaml

from nescio.data.dialogs import Dialog, parse_dialog, read_dialogs, split_dialogs
from nescio.data.pairs import Pairing, pairs_of
from nescio.data.rewrite import Rewriting, rewrite, write_settled
from nescio.data.samples import Sample, parse_sample, samples_of, subsample
from nescio.data.synthetic import generate
from nescio.engines.torch import TorchEngine, load
from nescio.errors import NescioError
from nescio.evaluation.leakage import Setup, answer, answer_rows
from nescio.evaluation.quality import fits
from nescio.evaluation.results import mark_best, result_row
from nescio.files import file_hash, read_jsonl, write_json, write_jsonl, write_text
from nescio.guidance import Guidance
from nescio.models import SENTENCES_FILE, identity, load_model, load_tokenizer, release
from nescio.pii.detector import Detector, load_detector
from nescio.recipe import Recipe, TrainSection, TuneSection
from nescio.report import figures, html
from nescio.stages import Stage, Stages, order
from nescio.training.examples import dialog_group, read_pairs
from nescio.training.objectives import likelihood, orpo
from nescio.training.trainer import Plan, fit

_TOGETHER = 22  # samples answered before their answers are on the disk
Tick = Callable[[int, int, str], None]


class Reporter(Protocol):
    """Shows how far a run is."""

    def stage(self, name: str) -> AbstractContextManager[Tick]:
        """Open a stage; the tick is called with done, total and a word."""

    def skipped(self, name: str) -> None:
        """A stage that was done before."""

    def note(self, text: str) -> None:
        """A line worth reading."""


class Run:
    """A recipe at work in its folder.

    Args:
        recipe: What to do.
        out: The run folder.
        reporter: Where progress goes.
    """

    def __init__(self, recipe: Recipe, out: Path, reporter: Reporter) -> None:
        self.recipe, self.out, self.reporter = recipe, out, reporter

    def execute(self, until: str | None = None) -> None:
        """Do what is not done yet, up to a stage.

        Raises:
            NescioError: The folder holds another recipe's run, or something is missing; what was finished is kept.
        """
        stages = order(self.stages(), until)
        self._claim()
        machinery = Stages(self.out, self.recipe.seed)
        for stage in stages:
            if not machinery.run(stage):
                self.reporter.skipped(stage.name)

    def _claim(self) -> None:
        path, mine = self.out / "recipe.yaml", self.recipe.plain()
        if path.exists():
            theirs = _plain_yaml(path)
            differs = [name for name in ("base", "tuned") if theirs.get(name) != mine[name]]
            if _source(theirs) != _source(mine):
                differs.append("data")
            if differs:
                raise NescioError(
                    f"{self.out}: holds a run of another recipe ({differs[0]} differs); give another --out"
                )
        write_text(path, yaml.safe_dump(mine, sort_keys=False, allow_unicode=True))

    # -- what depends on what -----------------------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        """All stages, in order, each with all that decides its result."""
        plain, seed = self.recipe.plain(), self.recipe.seed
        base = identity(self.recipe.base)
        tuned = None if self.recipe.tuned is None else identity(self.recipe.tuned)
        made = () if self.recipe.tuned else ("tuned",)
        dialogs = self.recipe.data.dialogs
        source = None if dialogs is None else file_hash(_existing(dialogs))
        samples, pairs = ("samples/train.jsonl", "samples/test.jsonl"), ("pairs/train.jsonl", "pairs/test.jsonl")
        split = ("data/train.jsonl", "data/test.jsonl")

        checked = plain["data"]["validation_samples"]
        prompt_limit = plain["train"]["max_prompt_length"]

        def stage(name: str, outputs: tuple[str, ...], sections: str, inputs: tuple[str, ...], more: Any) -> Stage:
            depends = [{section: plain[section] for section in sections.split()}, seed, more]
            return Stage(name, outputs, depends, inputs, self._reported(name, getattr(self, f"_{name}")))

        judged = (samples[1], split[1], "adapter", *made)
        stages = [
            stage("data", split, "", (), [_source(plain), plain["data"]["test_share"], source]),
            stage("tune", ("tuned",), "tune", ("data/train.jsonl",), base),
            stage("samples", samples, "detector", split, plain["data"]["train_samples"]),
            stage("candidates", ("candidates.jsonl",), "generate detector", samples, [base, checked]),
            stage("pairs", pairs, "pairs", (*samples, "candidates.jsonl", *made), [tuned, prompt_limit]),
            stage("train", ("adapter",), "train pairs", (*pairs, *made), tuned),
            stage("evaluate", ("eval",), "evaluate detector pairs", judged, [base, tuned]),
            stage("report", ("figures", "report.html"), "evaluate", ("eval", "adapter/log.jsonl"), None),
        ]
        return [s for s in stages if s.name != "tune" or self.recipe.tune is not None]

    def _reported(self, name: str, work: Callable[[Path, Tick], None]) -> Callable[[Path], None]:
        def wrapped(folder: Path) -> None:
            with self.reporter.stage(name) as tick:
                work(folder, tick)
            release()

        return wrapped

    @cached_property
    def detector(self) -> Detector:
        """The recipe's detector, loaded when it is first asked."""
        return load_detector(self.recipe.detector.model, self.recipe.detector.ignore)

    @property
    def tuned_name(self) -> str:
        """The tuned model: the recipe's, or the one that the tune stage made."""
        return self.recipe.tuned or str(self.out / "tuned")

    # -- the stages ---------------------------------------------------------------------------------------------------

    def _data(self, folder: Path, tick: Tick) -> None:
        section = self.recipe.data
        if section.synthetic is not None:
            rows = generate(section.synthetic.dialogs, self.recipe.seed, section.synthetic.max_exchanges)
            dialogs = [parse_dialog(row, row["id"]) for row in rows]
        else:
            assert section.dialogs is not None  # the recipe's own check
            dialogs = list(read_dialogs(section.dialogs))
        train, test = split_dialogs(dialogs, section.test_share, self.recipe.seed)
        write_jsonl(folder / "data/train.jsonl", (dialog.as_row() for dialog in train))
        write_jsonl(folder / "data/test.jsonl", (dialog.as_row() for dialog in test))
        tick(1, 1, f"{len(train)} dialogs to train on, {len(test)} held out")

    def _tune(self, folder: Path, tick: Tick) -> None:
        section = self.recipe.tune
        assert section is not None  # the stage is there only then
        loaded = load_model(self.recipe.base)
        dialogs = read_dialogs(self.out / "data/train.jsonl")
        units = [[g] for dialog in dialogs for g in dialog_group(loaded.tokenizer, dialog, section.max_length)]
        work, tokens = folder / "checkpoints", sum(group.tokens for unit in units for group in unit)
        tuned, log = fit(
            loaded.model, units, None, likelihood, _plan(section, self.recipe.seed), work,
            lambda done, total: tick(done, total, f"{tokens} tokens an epoch"),
        )  # fmt: skip
        merged = tuned.merge_and_unload()
        merged.save_pretrained(folder / "tuned")
        loaded.tokenizer.save_pretrained(folder / "tuned")
        write_jsonl(folder / "tuned/log.jsonl", log)

    def _samples(self, folder: Path, tick: Tick) -> None:
        for side in ("train", "test"):
            found = list(samples_of(list(read_dialogs(self.out / f"data/{side}.jsonl")), self.detector))
            limit = self.recipe.data.train_samples if side == "train" else None
            kept = subsample(found, limit, self.recipe.seed)
            if not kept:
                raise NescioError(
                    f"{self.out}/data/{side}.jsonl: no personal data in any assistant turn; nothing to unlearn"
                )
            write_jsonl(folder / f"samples/{side}.jsonl", (sample.as_row() for sample in kept))
            tick(1 + (side == "test"), 2, f"{len(kept)} of {len(found)} {side} samples")

    def _candidates(self, folder: Path, tick: Tick) -> None:
        section = self.recipe.generate
        samples = [*self._read_samples("train"), *self._validation_samples()]
        how = Rewriting(
            tuple(section.strategies), section.temperature, section.max_tokens, section.tries, self.recipe.seed
        )
        counts = rewrite(samples, load(self.recipe.base), self.detector, how, folder / "paid.jsonl", tick)
        write_settled(folder / "paid.jsonl", folder / "candidates.jsonl", samples, section.strategies)
        rejected = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if reason != "accepted")
        self.reporter.note(f"{counts['accepted']} replacement answers kept; rejected: {rejected or 'none'}")

    def _pairs(self, folder: Path, tick: Tick) -> None:
        section, counts = self.recipe.pairs, Counter[str]()
        how = Pairing(section.twins, section.positive, section.negative, self.recipe.train.max_prompt_length)
        candidates = [row for _, row in read_jsonl(self.out / "candidates.jsonl")]
        tokenizer = load_tokenizer(self.tuned_name)
        for side in ("train", "test"):
            pairs = pairs_of(self._read_samples(side), candidates, tokenizer, how, counts)
            write_jsonl(folder / f"pairs/{side}.jsonl", pairs)
        tick(1, 1, f"{counts['pairs']} pairs, {counts['cut']} prompts cut, {counts['border']} left out at the border")

    def _train(self, folder: Path, tick: Tick) -> None:
        section, sentences = self.recipe.train, self.recipe.pairs
        loaded = load_model(self.tuned_name)
        limits = (section.max_length, section.max_prompt_length)
        train = read_pairs(self.out / "pairs/train.jsonl", loaded.tokenizer, *limits)
        test_path = self.out / "pairs/test.jsonl"
        test = read_pairs(test_path, loaded.tokenizer, *limits) if test_path.stat().st_size else None
        work = folder / "checkpoints"
        adapted, log = fit(
            loaded.model, train, test, orpo(section.beta), _plan(section, self.recipe.seed), work,
            lambda done, total: tick(done, total, f"{sum(map(len, train))} pairs"),
        )  # fmt: skip
        adapter = folder / "adapter"
        adapted.save_pretrained(adapter)
        write_json(adapter / SENTENCES_FILE, {"positive": sentences.positive, "negative": sentences.negative})
        write_jsonl(adapter / "log.jsonl", log)
        for epoch, checkpoint in enumerate(sorted(work.glob("checkpoint-*"), key=_step), start=1):
            _keep_adapter(checkpoint, adapter / f"epoch-{epoch}")

    def _evaluate(self, folder: Path, tick: Tick) -> None:
        section, protect = self.recipe.evaluate, self.recipe.pairs.positive
        samples = subsample(self._read_samples("test"), section.samples, self.recipe.seed)
        if len(samples) < section.samples:
            self.reporter.note(f"{section.samples} samples asked for, {len(samples)} there are; all are used")
        setups = self._setups()
        rows = self._answers(folder, setups, samples, tick)
        tick(len(samples), len(samples), "do the answers fit their prompts?")
        fit_of = fits(rows, load(self.recipe.base), self.detector)
        dialogs = {dialog.id: dialog for dialog in read_dialogs(self.out / "data/test.jsonl")}
        own = [self._own_pieces(dialogs[sample.dialog_id]) for sample in samples]
        table = [result_row(s, rows[s.name], own, fit_of[s.name], protect, self.recipe.seed) for s in setups]
        mark_best(table)
        write_json(folder / "eval/results.json", table)

    def _answers(
        self, folder: Path, setups: Sequence[Setup], samples: Sequence[Sample], tick: Tick
    ) -> dict[str, list[dict[str, Any]]]:
        """Every set-up's answers, some samples at a time; what an earlier, cut-off run finished is taken as it is."""
        engine: TorchEngine | None = None
        rows: dict[str, list[dict[str, Any]]] = {setup.name: [] for setup in setups}
        for start in range(0, len(samples), _TOGETHER):
            path, chunk = folder / f"answers/{start}.json", samples[start : start + _TOGETHER]
            if not path.exists():
                tick(start, len(samples), f"answers of {len(setups)} set-ups")
                engine = engine or load(self.tuned_name, self.out / "adapter")
                write_json(path, answer(engine, setups, chunk, self.recipe.evaluate.max_tokens))
            for setup, given in zip(setups, json.loads(path.read_text(encoding="utf-8")), strict=True):
                rows[setup.name] += answer_rows(chunk, given, self.detector)
        for name, answered in rows.items():
            write_jsonl(folder / f"eval/{name}.jsonl", answered)
        return rows

    def _setups(self) -> list[Setup]:
        section, sentences = self.recipe.evaluate, self.recipe.pairs

        def guided(scale: float, space: Any = "prob") -> Guidance:
            return Guidance(scale, space, sentences.positive, sentences.negative)

        return [
            Setup("tuned", "tuned", None, None),
            Setup("tuned-protect", "tuned + protect prompt", None, guided(1)),
            Setup("trained", "trained", "default", guided(1)),
            *(
                Setup(f"trained-{space}-{scale:g}", "trained", "default", guided(scale, space))
                for space in section.spaces
                for scale in section.scales
                if scale != 1
            ),
        ]

    def _report(self, folder: Path, tick: Tick) -> None:
        figures.draw(self.out)
        tick(1, 2, "figures")
        html.write(self.out)

    # -- small things -------------------------------------------------------------------------------------------------

    def _read_samples(self, side: str) -> list[Sample]:
        return [parse_sample(row) for _, row in read_jsonl(self.out / f"samples/{side}.jsonl")]

    def _validation_samples(self) -> list[Sample]:
        return subsample(self._read_samples("test"), self.recipe.data.validation_samples, self.recipe.seed + 1)

    def _own_pieces(self, dialog: Dialog) -> list[str]:
        if dialog.pii is not None:
            return list(dialog.pii.values())
        found = self.detector.find([message["content"] for message in dialog.messages])
        return [span.text for spans in found for span in spans]


def _plan(section: TuneSection | TrainSection, seed: int) -> Plan:
    return Plan(
        epochs=section.epochs,
        batch_size=section.batch_size,
        accumulate=section.gradient_accumulation,
        learning_rate=section.learning_rate,
        lora_r=section.lora.r,
        lora_alpha=section.lora.alpha,
        lora_dropout=section.lora.dropout,
        seed=seed,
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _keep_adapter(checkpoint: Path, place: Path) -> None:
    """Copy what PEFT loads out of a checkpoint; the optimizer's state has done its work."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(checkpoint / name, place / name)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NescioError(f"{path}: no such dialog file; mend data.dialogs in the recipe")
    return path


def _source(recipe: dict[str, Any]) -> list[Any]:
    """Where a recipe's dialogs come from."""
    data = recipe.get("data") or {}
    return [data.get("dialogs"), data.get("synthetic")]


def _plain_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NescioError(f"{path}: damaged; delete it to go on with the recipe you give") from error
    return content if isinstance(content, dict) else {}
