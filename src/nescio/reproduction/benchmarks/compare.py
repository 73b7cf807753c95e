"""A comparison: models that have learned a benchmark, methods that unlearn its forget half, and what each row gives."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import fingerprint, read_object, write_json, write_jsonl
from nescio.core.guidance import Guidance
from nescio.core.machine import machine, versions
from nescio.core.models import load_tokenizer
from nescio.core.wilson import wilson
from nescio.data.benchmarks import BENCHMARKS, Question
from nescio.data.dialogs import parse_dialog
from nescio.engines.torch_engine import load
from nescio.evaluation.statistics import bootstrap_shares
from nescio.pipeline.context import Context
from nescio.pipeline.recipe import Recipe, load_recipe
from nescio.pipeline.run import Reporter, Run
from nescio.reproduction.benchmarks import page
from nescio.reproduction.benchmarks.asking import Asked, ModelAnswers, ask, kept
from nescio.reproduction.benchmarks.methods import Method, chosen_methods, made_with
from nescio.reproduction.benchmarks.parts import Parts, parts_of
from nescio.reproduction.benchmarks.scores import Choice, best, choice, leaks, numbers
from nescio.reproduction.benchmarks.size import Size
from nescio.reproduction.benchmarks.unlearn import unlearn
from nescio.training.examples import dialog_group
from nescio.training.trainer import DivergedError

LEARNED = 0.3
"""Share of the forget half's values that the tuned model has to give away."""
USEFUL = 0.9
"""Share of the tuned model's words and retain half that a setting has to keep, to be chosen for its leak."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a method: the factor of the rate, and the epoch."""

    rate: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Row:
    """A model of the table: the model, its adapter, how it is guided."""

    model: str
    adapter: Path | None = None
    guidance: Guidance | None = None


class Comparison:
    """One comparison in its folder; what is done there is not done again.

    Args:
        name: The benchmark.
        recipe: The recipe's file; its dialogs are the benchmark's.
        overrides: `a.b=value`.
        data: The benchmark's folder; None: the hub.
        out: The folder.
        size: How much.
        methods: Names; none: all.
        reporter: Receives progress.

    Raises:
        NescioError: The data, the recipe or a name is wrong, or the folder holds another comparison.
    """

    def __init__(
        self, name: str, recipe: Path, overrides: Sequence[str], data: Path | None, out: Path, *, size: Size,
        methods: Sequence[str], reporter: Reporter,
    ) -> None:  # fmt: skip
        self.name, self.out, self.size, self.reporter = name, out, size, reporter
        self.methods = chosen_methods(methods)
        self._recipe_file, self._overrides = recipe, list(overrides)
        # 1) the recipe, with any dialogs: what it says of them is not read
        self.recipe = self._recipe({"data.synthetic": {}})
        if self.recipe.tune is None:
            raise NescioError(f"{recipe}: tune: missing; the comparison makes the model that has learned the benchmark")
        # 2) whom it is about; the detector decides what is personal where the benchmark does not record it
        self.parts = parts_of(
            BENCHMARKS.get(name)(data), count=size.questions, per_person=size.per_person, variants=size.variants,
            seed=self.recipe.seed, detector=Context(self.recipe, out, reporter.note).detector,
        )  # fmt: skip
        self.parts = replace(self.parts, forget=self._short_enough(self.parts.forget))
        self.choosing, self.measured = (
            self.parts.side(choosing) if size.chooses else self.parts for choosing in (True, False)
        )
        self._claim()
        self._claim_methods()
        # 3) the parts as dialogs
        for part in ("learned", "forget", "retain", "outside"):
            write_jsonl(self._dialogs(part), (question.as_dialog() for question in getattr(self.parts, part)))

    def make(self) -> str:
        """Train what is missing, ask what has not been asked, and write table, figure and result.

        Returns:
            The table as Markdown.

        Raises:
            NescioError: The tuned model has not learned the benchmark, or a training diverges.
        """
        # 1) the model that has learned both halves, and the one that never saw the forget half
        tuned, retrained = self._tuned("tuned", "learned"), self._tuned("retrained", "retain")
        known = self._asked("tuned", Row(tuned), self.measured)
        self._check_learned(known)
        gold = self._asked("retrained", Row(retrained), self.measured)
        rows = [self._numbers("tuned", [known], known, gold), self._numbers("retrained", [gold], known, gold)]
        # 2) each method, at the setting that is chosen with other people, once for each seed
        diverged = dict[str, str]()
        for method in self.methods:
            try:
                setting, grid = self._chosen(method, tuned)
                each = [self._rows(method, tuned, setting.rate, seed)[setting.epoch - 1] for seed in self.size.seeds]
            except DivergedError as error:
                self.reporter.note(f"{method.name} is left out: {error}")
                diverged[method.name] = str(error).partition(";")[0]
                continue
            names = [f"{method.name}-seed-{seed}" for seed in self.size.seeds]
            said = [self._asked(one, row, self.measured) for one, row in zip(names, each, strict=True)]
            facts = {"retain": method.retain is not None, "about": method.about, "grid": grid}
            rows.append(
                self._numbers(method.name, said, known, gold) | facts | {"setting": self._setting_row(method, setting)}
            )
        # 3) the files
        return page.write(self._result(rows, diverged), self.out)

    def _short_enough(self, questions: Sequence[Question]) -> list[Question]:
        """Return the questions that leave room for an answer: a method that can't be trained on one would stop all."""
        tokenizer, most = load_tokenizer(self.recipe.base), self.recipe.train.max_length
        kept = [each for each in questions if dialog_group(tokenizer, parse_dialog(each.as_dialog(), each.id), most)]
        if left_out := len(questions) - len(kept):
            self.reporter.note(f"left out, because they fill train.max_length ({most}): {left_out} questions")
        return kept

    # -- models -------------------------------------------------------------------------------------------------------

    def _tuned(self, name: str, part: str) -> str:
        """Return the model that is tuned on a part of the benchmark."""
        folder = self.out / "models" / name
        recipe = self._recipe({"data.dialogs": self._dialogs(part), "data.test": self._dialogs("outside")})
        Run(recipe, folder, self.reporter).execute("tune")
        return str((folder / "tuned").resolve())

    def _rows(self, method: Method, tuned: str, rate: float, seed: int) -> list[Row]:
        """Return a method's rows at a rate: one for each epoch, of ours the baked one alone."""
        folder = self.out / f"methods/{method.name}/rate-{rate:.3g}/seed-{seed}"
        section = self.recipe.train
        learning_rate = section.learning_rate * rate
        if method.loss is None:
            return [self._ours(folder, tuned, learning_rate, seed)] * section.epochs  # baking follows the last one
        with self.reporter.stage(method.name) as tick:
            adapters = unlearn(
                method, tuned, self.parts.forget, self.parts.retain, folder,
                section=section, rate=learning_rate, seed=seed, tick=tick,
            )  # fmt: skip
        return [Row(tuned, adapter) for adapter in adapters]

    def _ours(self, folder: Path, tuned: str, rate: float, seed: int) -> Row:
        """Run the pipeline on the forget half alone."""
        settings = {
            "tune": None, "tuned": tuned, "data.dialogs": self._dialogs("forget"), "seed": seed,
            "data.test": self._dialogs("outside"), "data.validation_samples": 1, "train.learning_rate": rate,
        }  # fmt: skip
        recipe = self._recipe(settings)
        Run(recipe, folder, self.reporter).execute("train" if recipe.bake is None else "bake")
        if recipe.bake is not None:
            return Row(tuned, folder / "adapter")
        guidance = Guidance(3.0, "prob", *Context(recipe, folder, self.reporter.note).sentences)
        return Row(tuned, folder / "adapter", guidance)

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _chosen(self, method: Method, tuned: str) -> tuple[Setting, list[dict[str, Any]]]:
        """Return the setting of a method, and the grid with what decided."""
        seed, epochs = self.size.seeds[0], self.recipe.train.epochs
        if not self.size.chooses:
            return Setting(self.size.rates[0], epochs), []
        known = self._asked("choosing/tuned", Row(tuned), self.choosing, scores=False)
        choices: dict[Setting, Choice] = {}
        for rate in self.size.rates:
            try:
                rows = self._rows(method, tuned, rate, seed)
            except DivergedError as error:
                self.reporter.note(f"{method.name}, rate {rate:.3g} of the recipe's: {error}")
                continue
            first = epochs if method.loss is None or not self.size.all_epochs else 1
            for epoch in range(first, epochs + 1):
                name = f"choosing/{method.name}-rate-{rate:.3g}-epoch-{epoch}"
                said = self._asked(name, rows[epoch - 1], self.choosing, scores=False)
                choices[Setting(rate, epoch)] = choice(self.choosing, said, known)
        if not choices:
            raise DivergedError("every rate of the grid diverges")
        grid = [
            {"rate": key.rate, "epoch": key.epoch, "leak": each.leak, "usefulness": each.usefulness}
            for key, each in choices.items()
        ]
        return best(choices, USEFUL), grid

    # -- measuring ----------------------------------------------------------------------------------------------------

    def _asked(self, name: str, row: Row, parts: Parts, scores: bool = True) -> ModelAnswers:
        """Return what a row said, from disk or now."""
        size = self.size
        words = (0, size.words) if scores else (size.words, size.choosing_words)
        asked = Asked(
            parts=parts, words=words, max_tokens=self.recipe.evaluate.max_tokens,
            draws=size.draws if scores else 0, scores=scores,
        )  # fmt: skip

        def now() -> ModelAnswers:
            with self.reporter.stage(f"ask {name}"), load(row.model) as engine:
                if row.adapter is not None:
                    engine.load_adapter("row", row.adapter)
                return ask(engine, None if row.adapter is None else "row", row.guidance, asked)

        return kept(self.out / f"asked/{name}.json", now)

    def _check_learned(self, tuned: ModelAnswers) -> None:
        share = fmean(leaks(self.measured, tuned).values())
        if share < LEARNED:
            raise NescioError(
                f"{self.name}: the tuned model gives away {share:.0%} of the forget half's values, under "
                f"{LEARNED:.0%}: it has not learned the set; raise tune.epochs or tune.learning_rate, and give "
                "another --out"
            )

    def _numbers(
        self, name: str, said: Sequence[ModelAnswers], tuned: ModelAnswers, retrained: ModelAnswers
    ) -> dict[str, Any]:
        """Return the row of the table: means over the seeds, with the interval over people and what each seed gave."""
        each = [numbers(self.measured, one, tuned, retrained) for one in said]
        row = {key: _mean([one[key] for one in each]) for key in each[0]}
        given = [leaks(self.measured, one) for one in said]
        subjects = {question.id: question.subject for question in self.measured.forget}
        shares = [[fmean(one[key] for one in given)] for key in given[0]]
        (interval,) = bootstrap_shares(shares, [subjects[key] for key in given[0]], self.recipe.seed)
        right = fmean(sum(one.words) for one in said)
        return {
            "method": name, "seeds": len(said), **row,
            "leak_ci95": list(interval), "leak_seeds": [one["leak"] for one in each],
            "words_ci95": list(wilson(right, len(said[0].words))),
            "usefulness_seeds": [one["usefulness"] for one in each],
        }  # fmt: skip

    # -- files --------------------------------------------------------------------------------------------------------

    def _recipe(self, settings: dict[str, Any]) -> Recipe:
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        return load_recipe(self._recipe_file, self._overrides, settings=plain)

    def _dialogs(self, part: str) -> Path:
        return (self.out / f"data/{part}.jsonl").resolve()

    def _setting_row(self, method: Method, setting: Setting) -> dict[str, Any]:
        rate = self.recipe.train.learning_rate * setting.rate
        return {"learning_rate": rate, "epoch": setting.epoch, "beta": method.beta, "retain_weight": method.retain}

    def _claim(self) -> None:
        """Write down what is compared, and refuse the folder of another comparison."""
        mine = {
            "benchmark": self.name,
            "recipe": fingerprint(self.recipe.plain()),
            "questions": fingerprint(asdict(self.parts)),
            "size": fingerprint(repr(replace(self.size, seeds=()))),
        }
        path = self.out / "comparison.json"
        if path.exists():
            theirs = read_object(path, "delete the folder")
            if differs := [key for key in mine if theirs.get(key) != mine[key]]:
                raise NescioError(
                    f"{self.out}: holds another comparison (its {differs[0]} differs); give another --out"
                )
        write_json(path, mine)

    def _claim_methods(self) -> None:
        """Write down what each method is made with, and refuse what was made with something else under its name."""
        path = self.out / "methods.json"
        known = read_object(path, "delete the folder") if path.exists() else {}
        earlier = list[str]()
        for method in (each for each in self.methods if each.loss is not None):
            name, mine = method.name, made_with(method)
            places = (f"methods/{name}", f"asked/{name}-seed-*.json", f"asked/choosing/{name}-rate-*.json")
            if not (there := [place for place in places if any(self.out.glob(place))]):
                known[name] = mine
            elif name not in known:
                earlier.append(name)
            elif differs := [key for key in mine if known[name].get(key) != mine[key]]:
                raise NescioError(
                    f"{self.out}: holds another {name} (its {differs[0]} differs); delete {', '.join(there)} there, or "
                    "give another --out"
                )
        write_json(path, known)
        if earlier:
            self.reporter.note(f"made by an earlier version, without its β, and taken as it is: {', '.join(earlier)}")

    def _result(self, rows: list[dict[str, Any]], diverged: dict[str, str]) -> dict[str, Any]:
        parts = self.measured
        counts = {
            side: {"questions": len(own), "people": len({question.subject for question in own})}
            for side, own in (("forget", parts.forget), ("retain", parts.retain), ("outside", parts.outside))
        }
        return {
            "benchmark": self.name, "quick": not self.size.chooses, "base": self.recipe.base, "machine": machine(),
            "versions": versions(("torch", "transformers", "peft")), "measured": counts, "seeds": len(self.size.seeds),
            "words": self.size.words, "diverged": diverged, "rows": rows,
            "ratios": {},
        }  # fmt: skip


def _mean(values: Sequence[Any]) -> Any:
    return None if any(value is None for value in values) else fmean(values)
