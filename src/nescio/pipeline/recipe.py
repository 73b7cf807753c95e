"""The recipe: what a run does, as YAML, with the paper's numbers for defaults. Knows its own schema only."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nescio.compat import nested_guidance
from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT, REVEAL, Guidance
from nescio.core.guidance_fields import GuidanceField, SpaceName
from nescio.core.yaml_config import checked, read_yaml
from nescio.core.yaml_paths import Asked, DetectorName, FilePath, Named
from nescio.data.strategies import Strategy
from nescio.engines.registry import EngineKind
from nescio.pii.base import IGNORED_LABELS
from nescio.training.settings import Keep, MethodName, NllOver, Reporter

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DetectorSection(_Section):
    """What counts as personal data."""

    model: DetectorName = "spacy:en_core_web_trf"
    ignore: list[str] = list(IGNORED_LABELS)
    allow: list[str] = []
    deny: list[str] = []
    regex: dict[str, str] = {}
    recognizers: FilePath | None = None


class Synthetic(_Section):
    """Dialogs made up for the demo and for tests."""

    dialogs: Positive = 200
    max_exchanges: Annotated[int, Field(ge=1, le=4)] = 4


class DataSection(_Section):
    """Where the dialogs come from, and how they are split."""

    dialogs: FilePath | None = None
    pii: FilePath | None = None
    skip_bad: bool = False
    synthetic: Synthetic | None = None
    test_share: Share = 0.1
    train_samples: Positive | None = None
    validation_samples: Positive | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dialogs is None) == (self.synthetic is None):
            raise ValueError("give either dialogs: PATH or synthetic:, one of the two")
        return self


class LoraSection(_Section):
    """LoRA on all linear layers."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.01
    targets: Literal["all-linear"] | list[str] = "all-linear"


class _Fit(_Section):
    epochs: Positive = 3
    batch_size: Positive = 2
    gradient_accumulation: Positive = 1
    learning_rate: Rate = 1e-4
    max_length: Positive = 2048
    row_tokens: Positive = 1024
    gradient_checkpointing: bool = False
    lora: LoraSection = LoraSection()
    report_to: list[Reporter] = []


class TuneSection(_Fit):
    """Fine-tuning of the base on the training dialogs, so that there is a tuned model to mend."""


class SubtractSection(_Section):
    """Training starts from base - coefficient (tuned - base): the paper's Model-sub (section 2.1)."""

    coefficient: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    relu: bool = False
    include: list[str] = []
    exclude: list[str] = []


class PriceSection(_Section):
    """Dollars for a million tokens."""

    prompt: Dollars
    answer: Dollars


class _EndpointSection(_Section):
    """A model behind an OpenAI-compatible endpoint: where it is, and the environment variable that holds its key."""

    base_url: str | None = None
    key_env: str | None = None

    @model_validator(mode="after")
    def _no_secret(self) -> Self:
        # Said for the section as a whole, so that the message does not repeat a key that stands in the wrong place.
        if self.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            raise ValueError("key_env: must be the name of an environment variable, never the key itself")
        if self.base_url is not None and "@" in self.base_url:
            raise ValueError("base_url: must hold no password; keys come from the environment (key_env)")
        return self


def _options_are_vllms(engine: str, vllm: dict[str, Any]) -> None:
    if vllm and engine != "vllm":
        raise ValueError(f"vllm: has options, but engine is {engine}; set engine: vllm, or leave them out")


class SourceSection(_EndpointSection):
    """A model that is asked for replacement answers (section 2.2): here, or at an OpenAI-compatible endpoint."""

    name: Annotated[str, Field(min_length=1)] = "base"
    engine: Literal["local", "vllm", "openai"] = "local"
    vllm: dict[str, Any] = {}
    model: Asked | None = None
    strategies: Annotated[list[Strategy], Field(min_length=1)] = ["system", "nudge"]
    temperature: Annotated[float, Field(gt=0)] = 0.7
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    budget: Positive | None = None
    key_env: str | None = "OPENAI_API_KEY"
    tokenizer: Named | None = None
    concurrency: Positive = 8
    timeout: Rate = 120.0
    price: PriceSection | None = None

    @model_validator(mode="after")
    def _fields_fit_the_engine(self) -> Self:
        if self.is_endpoint and self.model is None:
            raise ValueError("model: missing; name the model as the endpoint does")
        _options_are_vllms(self.engine, self.vllm)
        return self

    @property
    def is_endpoint(self) -> bool:
        """Whether it is asked over the network."""
        return self.engine == "openai"


class GenerateSection(_Section):
    """Replacement answers: from whom, how long, how often (section 2.2)."""

    sources: Annotated[list[SourceSection], Field(min_length=1)] = [SourceSection()]
    max_tokens: Positive = 256
    tries: Positive = 3

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("sources: two have the same name; give each its own")
        return self


class PairsSection(_Section):
    """Pairs, and the CFG twins of them; of some sources, and equally many of each, for ablations (section 4)."""

    twins: bool = True
    positive: str = PROTECT
    negative: str = REVEAL
    sources: list[str] | None = None
    balance: bool = False
    per_source: Positive | None = None


class TrainSection(_Fit):
    """ORPO with LoRA (section 2.3), or a baseline."""

    method: MethodName = "orpo"
    nll_over: NllOver = "answer"
    beta: Rate = 0.1
    max_prompt_length: Positive = 1900
    keep: Keep = "last"
    patience: Positive | None = None

    @model_validator(mode="after")
    def _answers_have_room(self) -> Self:
        if self.max_prompt_length >= self.max_length:
            raise ValueError(
                f"max_prompt_length: {self.max_prompt_length} leaves no room for answers in a max_length of "
                f"{self.max_length}; set it lower, as 1900 of 2048"
            )
        return self


class RowSection(_Section):
    """A row of the table beside the run's own: any model, adapter, system prompt, guidance and output filter.

    A model or adapter that is left out is the run's tuned model, without an adapter.
    """

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")]
    model: Named | None = None
    adapter: Named | None = None
    system: str | None = None
    nudge: bool = False
    protect: bool = False
    guidance: GuidanceField = Guidance()
    mask: bool = False

    @model_validator(mode="before")
    @classmethod
    def _flat_guidance(cls, row: Any) -> Any:
        return nested_guidance(row)


class JudgeSection(_EndpointSection):
    """A model that judges answers in words: a local one or, with `base_url` or `key_env`, one behind an endpoint.

    With `key_env` alone the endpoint is OpenAI's own; without it the server wants no key.
    """

    model: Annotated[Named, Field(min_length=1)]

    @property
    def is_endpoint(self) -> bool:
        """Whether it is asked over the network."""
        return self.base_url is not None or self.key_env is not None


class MeasureSection(_Section):
    """A further measure: its name in the registry `nescio.measures`; all other keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @property
    def options(self) -> dict[str, Any]:
        """The measure's own options."""
        return dict(self.model_extra or {})


def _check_measures(measures: Sequence[MeasureSection]) -> None:
    """Report an unknown name or option now, not after the training."""
    from nescio.evaluation.run import open_measure

    names = [measure.name for measure in measures]
    for measure in measures:
        made = open_measure(measure.name, **measure.options)
        if type(made).__module__.startswith("nescio.evaluation."):
            raise ValueError(f"measures: {measure.name} is built in; it has keys of its own under evaluate")
        if names.count(measure.name) > 1:
            raise ValueError(f"measures: {measure.name} is named twice; keep one")


class EvaluateSection(_Section):
    """What the table compares (section 3), what is measured of each row, and on which engine."""

    engine: EngineKind = "torch"
    vllm: dict[str, Any] = {}
    samples: Positive = 50
    max_tokens: Positive = 256
    scales: list[Scale] = [2.0, 3.0, 5.0]
    spaces: list[SpaceName] = ["log", "prob"]
    plausibility: list[Annotated[float, Field(gt=0, le=1)]] = []
    adaptive: bool = False
    baselines: bool = False
    rows: list[RowSection] = []
    questions: Named = "plain"
    question_count: Count | None = None
    judge: JudgeSection | None = None
    harmless: Count = 40
    draws: Count = 0
    drawn: Count = 10
    attacked: Count = 0
    measures: list[MeasureSection] = []

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.judge is not None and self.question_count == 0:
            raise ValueError("judge: has nothing to judge where question_count is 0; ask some questions, or no judge")
        if self.draws and not self.drawn:
            raise ValueError("drawn: 0 leaves no sample to draw answers to; set it to 1 or more, or draws to 0")
        _options_are_vllms(self.engine, self.vllm)
        if self.measures:
            _check_measures(self.measures)
        return self


class Recipe(_Section):
    """A whole run."""

    seed: int = 0
    base: Named
    tuned: Named | None = None
    detector: DetectorSection = DetectorSection()
    data: DataSection
    tune: TuneSection | None = None
    subtract: SubtractSection | None = None
    generate: GenerateSection = GenerateSection()
    pairs: PairsSection = PairsSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="after")
    def _one_tuned_model(self) -> Self:
        if (self.tuned is None) == (self.tune is None):
            raise ValueError("give either tuned: MODEL, or tune: to make it from the base; one of the two")
        return self

    @model_validator(mode="after")
    def _sources_exist(self) -> Self:
        names = {source.name for source in self.generate.sources}
        for name in self.pairs.sources or ():
            if name not in names:
                raise ValueError(f"pairs.sources: {name} is no source; generate.sources has {', '.join(sorted(names))}")
        return self

    def plain(self) -> dict[str, Any]:
        """The recipe with every default written out, as plain data."""
        return self.model_dump(mode="json")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; paths in it are relative to its folder, and absolute in what is returned.

    Args:
        path: YAML.
        overrides: `a.b=value`, each value as YAML.

    Raises:
        NescioError: The file, a key or a value is wrong.
    """
    content, text = read_yaml(path, "`nescio init` writes a recipe to start from")
    for override in overrides:
        _set(content, override)
    return checked(Recipe, content, str(path), text, path.parent)


def _set(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise NescioError(f"--set {override}: must read a.b=value")
    *parents, last = name.split(".")
    for parent in parents:
        if content.get(parent) is None:
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise NescioError(f"--set {override}: {parent} is not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise NescioError(f"--set {override}: the value is not YAML") from error
