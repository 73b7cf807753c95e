"""The section `evaluate` of a recipe: the rows, what is asked of them, and who judges."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from nescio.audit.base import ATTACKS
from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.guidance_fields import GuidanceField, SpaceName
from nescio.core.yaml_config import PathOrName, path_or_name
from nescio.engines.registry import is_endpoint
from nescio.pipeline.sections import ADDRESS, Count, Endpoint, EngineSection, Positive, Scale, Section


class RowSection(Section):
    """A further row of the table: any model, adapter, system prompt, guidance and output filter.

    Without a model it is the run's tuned model; without an adapter it has none. A reference is never best.
    """

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")]
    model: PathOrName | None = None
    adapter: PathOrName | None = None
    system: str | None = None
    nudge: bool = False
    protect: bool = False
    guidance: GuidanceField = Guidance()
    mask: bool = False
    reference: bool = False


class JudgeSection(Endpoint):
    """A model that judges answers in words.

    Without `engine` it is a torch engine or, with `base_url` or `key_env`, an OpenAI-compatible endpoint. With
    `key_env` alone the endpoint is OpenAI's own; without it the server wants no key.
    """

    engine: EngineSection | None = None
    model: Annotated[str, Field(min_length=1)]

    @field_validator("model")
    @classmethod
    def _name_at_an_endpoint(cls, model: str, info: ValidationInfo) -> str:
        # A wrong engine is missing here, and is reported by itself.
        at_endpoint = {"engine", "base_url", "key_env"} <= info.data.keys() and is_endpoint(_judge_engine(info.data))
        return model if at_endpoint else path_or_name(model, info)

    @property
    def kind(self) -> str:
        """Name of the engine."""
        return _judge_engine(dict(self))

    @property
    def is_endpoint(self) -> bool:
        """Whether the model is reached over the network."""
        return is_endpoint(self.kind)

    @property
    def engine_options(self) -> dict[str, Any]:
        """Options of the engine; an endpoint's include its address and key."""
        if self.engine is None:
            return self.model_dump(include=ADDRESS) if self.is_endpoint else {}
        return self.engine.options | self.model_dump(include=ADDRESS, exclude_defaults=True)


def _judge_engine(judge: Mapping[str, Any]) -> str:
    if judge["engine"] is not None:
        return str(judge["engine"].kind)
    return "torch" if judge["base_url"] is None and judge["key_env"] is None else "openai"


class MeasureSection(Section):
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
        try:
            made = open_measure(measure.name, **measure.options)
        except NescioError as error:  # Pydantic adds file, line and field to a ValueError
            raise ValueError(str(error).removeprefix("evaluate.")) from error
        if type(made).__module__.startswith("nescio.evaluation."):
            raise ValueError(f"measures: {measure.name} is built in; it has keys of its own under evaluate")
        if names.count(measure.name) > 1:
            raise ValueError(f"measures: {measure.name} is named twice; keep one")


FULL = {"samples": 200, "words": 1000, "everyday": 200, "asked_for_samples": 40, "harmless_prompts": 40}
"""What `nescio evaluate --full` asks: enough that the verdict's tests can be decided."""


def _known_attack(name: str) -> str:
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r}: unknown; known here: {', '.join(ATTACKS)}")
    return name


AttackName = Annotated[str, AfterValidator(_known_attack)]
"""Name of an attack of the audit."""


class EvaluateSection(Section):
    """Rows of the table (section 3), what is measured of each, and the engine that answers."""

    engine: EngineSection = EngineSection()
    samples: Positive = 50
    max_tokens: Positive = 256
    scales: list[Scale] = [2.0, 3.0, 5.0]
    spaces: list[SpaceName] = ["log", "prob"]
    plausibility: list[Annotated[float, Field(gt=0, le=1)]] = []
    adaptive: bool = False
    baselines: bool = False
    rows: list[RowSection] = []
    questions: PathOrName = "plain"
    question_count: Count | None = None
    words: Count = 200
    everyday: Count = 50
    judge: JudgeSection | None = None
    asked_for_samples: Count = 10
    key_candidates: Count = 0
    harmless_prompts: Count = 40
    leak_draws: Count = 0
    leak_samples: Count = 10
    attack_samples: Count = 0
    attacks: list[AttackName] = []
    attack_facts: Positive = 20
    measures: list[MeasureSection] = []

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.judge is not None and self.question_count == 0:
            raise ValueError("judge: has nothing to judge where question_count is 0; ask some questions, or no judge")
        if self.leak_draws and not self.leak_samples:
            raise ValueError(
                "leak_samples: 0 leaves no sample to draw answers to; set it to 1 or more, or leak_draws to 0"
            )
        if self.measures:
            _check_measures(self.measures)
        return self
