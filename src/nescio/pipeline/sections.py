"""The sections of a recipe up to the pairs: their keys, the paper's numbers as defaults, and what a value must be."""

import re
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from nescio.core.errors import NescioError
from nescio.core.guidance import PROTECT
from nescio.core.switch import KEY_PLACEHOLDER
from nescio.core.yaml_config import DetectorName, FilePath, PathOrName, path_or_name
from nescio.data.strategies import StrategyName
from nescio.engines.kind_field import EngineKind
from nescio.engines.registry import is_endpoint
from nescio.pii.base import Detector
from nescio.pii.registry import check_settings, ignored_labels, load_detector

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


ADDRESS = {"base_url", "key_env", "timeout"}  # keys that are options of an endpoint's engine


class Section(BaseModel):
    """A mapping of the recipe with known keys; it cannot be changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DetectorSection(Section):
    """What counts as personal data."""

    model: DetectorName = "default"
    ignore: list[str] = Field(default_factory=lambda read: list(ignored_labels(read.get("model", "default"))))
    count: list[str] | None = None
    thresholds: dict[str, float] = {}
    languages: list[str] = []
    recognizers: FilePath | None = None
    allow: list[str] = []
    deny: list[str] = []
    regex: dict[str, str] = {}

    def load(self) -> Detector:
        """Load the detector.

        Raises:
            NescioError: Something that it needs is missing.
        """
        return load_detector(self.model, **self.model_dump(exclude={"model"}))

    @model_validator(mode="after")
    def _known_and_readable(self) -> Self:
        settings = {"thresholds": self.thresholds, "languages": self.languages, "recognizers": self.recognizers}
        try:
            check_settings(self.model, {key: value for key, value in settings.items() if value}, self.count)
        except NescioError as error:  # Pydantic adds file, line and field to a ValueError
            raise ValueError(str(error).removeprefix("detector: ")) from error
        for label, pattern in self.regex.items():
            try:
                re.compile(pattern)
            except (re.error, OverflowError) as error:
                raise ValueError(f"regex: {label}: no regular expression ({error}); correct the pattern") from error
        return self


class Synthetic(Section):
    """Made-up dialogs, for the demo and for tests."""

    dialogs: Positive = 200
    max_exchanges: Annotated[int, Field(ge=1, le=4)] = 4


class DataSection(Section):
    """Where the dialogs come from, and how they are split."""

    dialogs: FilePath | None = None
    pii: FilePath | None = None
    skip_bad: bool = False
    synthetic: Synthetic | None = None
    test_share: Share = 0.1
    test: FilePath | None = None
    retain: FilePath | None = None
    train_samples: Positive | None = None
    validation_samples: Positive | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.dialogs is None) == (self.synthetic is None):
            raise ValueError("give either dialogs: PATH or synthetic:, one of the two")
        return self


class PriceSection(Section):
    """Dollars for a million tokens."""

    prompt: Dollars
    answer: Dollars


class Endpoint(Section):
    """Address of an OpenAI-compatible endpoint, and the environment variable that holds its key."""

    base_url: str | None = None
    key_env: str | None = None

    @model_validator(mode="after")
    def _no_secret(self) -> Self:
        # An error of the whole section quotes no value: a secret in the wrong place is not printed.
        if self.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_env):
            raise ValueError("key_env: must be the name of an environment variable, never the key itself")
        if self.base_url is not None and "@" in self.base_url:
            raise ValueError("base_url: must hold no password; keys come from the environment (key_env)")
        return self


class EngineSection(Section):
    """The engine that answers, by its name in the registry `nescio.engines`, and its own options."""

    kind: EngineKind = "torch"
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


class SourceSection(Endpoint):
    """A model that writes replacement answers (section 2.2), here or at an OpenAI-compatible endpoint."""

    name: Annotated[str, Field(min_length=1)] = "base"
    engine: EngineSection = EngineSection()
    model: str | None = None
    strategies: Annotated[list[StrategyName], Field(min_length=1)] = ["system", "nudge"]
    temperature: Annotated[float, Field(gt=0)] = 0.7
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    budget: Positive | None = None
    key_env: str | None = "OPENAI_API_KEY"
    tokenizer: PathOrName | None = None
    concurrency: Positive = 8
    timeout: Rate = 120.0
    price: PriceSection | None = None

    @field_validator("model")
    @classmethod
    def _name_at_an_endpoint(cls, model: str | None, info: ValidationInfo) -> str | None:
        engine = info.data.get("engine")
        at_endpoint = engine is not None and is_endpoint(engine.kind)
        return model if model is None or at_endpoint else path_or_name(model, info)

    @model_validator(mode="after")
    def _endpoint_has_a_model(self) -> Self:
        if self.is_endpoint and self.model is None:
            raise ValueError("model: missing; name the model as the endpoint does")
        if self.is_endpoint and (twice := ADDRESS & self.engine.options.keys()):
            raise ValueError(f"engine.options: {min(twice)} is a key next to engine; move it there")
        return self

    @property
    def is_endpoint(self) -> bool:
        """Whether the model is reached over the network."""
        return is_endpoint(self.engine.kind)

    @property
    def engine_options(self) -> dict[str, Any]:
        """Options of the engine; an endpoint's include its address, key and timeout where they are not the defaults."""
        address = self.model_dump(include=ADDRESS, exclude_defaults=True) if self.is_endpoint else {}
        return self.engine.options | address


class GenerateSection(Section):
    """Replacement answers: their sources, length and number of tries (section 2.2)."""

    sources: Annotated[list[SourceSection], Field(min_length=1)] = [SourceSection()]
    max_tokens: Positive = 256
    tries: Positive = 3
    best_of: Positive = 1

    @model_validator(mode="after")
    def _tries_for_the_best(self) -> Self:
        if self.best_of > self.tries:
            raise ValueError(f"best_of: {self.best_of} clean answers of {self.tries} tries; raise tries, or lower it")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("sources: two have the same name; give each its own")
        return self


class PairsSection(Section):
    """Pairs and their CFG twins; from some of the sources or equally many of each, for ablations (section 4).

    Further pairs ask in other words (`paraphrases`), or have a caller who asks for personal data (`asked`).
    """

    twins: bool = True
    positive: str = PROTECT
    negative: str = KEY_PLACEHOLDER
    sources: list[str] | None = None
    balance: bool | list[str] = False
    per_source: Positive | None = None
    per_beginning: Positive | None = None
    paraphrases: Count = 0
    asked: Annotated[float, Field(ge=0, le=1)] = 0.0

    @field_validator("positive")
    @classmethod
    def _no_secret_protects(cls, positive: str) -> str:
        if KEY_PLACEHOLDER in positive:
            raise ValueError(f"the secret {KEY_PLACEHOLDER} opens, so it stands in negative alone; leave it out here")
        return positive

    @model_validator(mode="after")
    def _twins_differ(self) -> Self:
        if self.twins and self.positive.strip() == self.negative.strip():
            raise ValueError(
                "negative: the same sentence as positive, so a pair and its twin would contradict each other"
            )
        return self
