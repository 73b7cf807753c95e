"""The sections of a recipe that train: tuning, subtraction, training on pairs with anchors, and baking."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nescio.core.errors import NescioError
from nescio.core.guidance import Guidance
from nescio.core.guidance_fields import GuidanceField
from nescio.core.quantization import Quantization
from nescio.pipeline.sections import Count, Positive, Rate, Section
from nescio.training.settings import Keep, LoraSettings, NllOver, Reporter


def _targets(value: Any) -> Any:
    """Refuse here what is neither: Pydantic's words about a union name its first member alone."""
    if value == "all-linear" or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        return value
    raise ValueError("must be all-linear or a list of modules, as [q_proj, v_proj]")


class LoraSection(Section):
    """LoRA on all linear layers."""

    r: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.01
    targets: Annotated[Literal["all-linear"] | list[str], BeforeValidator(_targets)] = "all-linear"

    @property
    def settings(self) -> LoraSettings:
        """The same for the trainer."""
        return LoraSettings(**dict(self))


class _Fit(Section):
    epochs: Positive = 3
    batch_size: Positive = 2
    gradient_accumulation: Positive = 1
    learning_rate: Rate = 1e-4
    max_length: Positive = 2048
    row_tokens: Positive = 1024
    gradient_checkpointing: bool = False
    quantize: Quantization | None = None
    lora: LoraSection = LoraSection()
    report_to: list[Reporter] = []


class TuneSection(_Fit):
    """Fine-tuning of the base on the training dialogs, for runs that bring no tuned model."""


class SubtractSection(Section):
    """Training starts from base - coefficient (tuned - base): the paper's Model-sub (section 2.1)."""

    coefficient: Annotated[float, Field(allow_inf_nan=False)] = 0.5
    relu: bool = False
    include: list[str] = []
    exclude: list[str] = []


def _known_loss(name: str) -> str:
    from nescio.training.losses.registry import open_loss

    try:
        loss = open_loss(name)
    except NescioError as error:  # Pydantic adds file, line and field to a ValueError
        raise ValueError(str(error)) from error
    if loss.is_prompted:
        raise ValueError(f"{name}: pairs have no prompts for its teacher; use bake.teacher: tuned, which distils too")
    return name


class AnchorsSection(Section):
    """Anchors: harmless prompts that the base makes up; the model is held to the tuned model's answers there.

    With `per_step: 0` they are made for baking alone.
    """

    count: Positive = 200
    per_step: Count = 2
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    max_tokens: Positive = 48

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.per_step > self.count:
            raise ValueError(
                f"per_step: {self.per_step} a step, but count makes {self.count}; set it lower, or count higher"
            )
        return self


class TrainSection(_Fit):
    """ORPO with LoRA (section 2.3), or a baseline."""

    method: Annotated[str, AfterValidator(_known_loss)] = "orpo"
    nll_over: NllOver = "answer"
    beta: Rate = 0.1
    max_prompt_length: Positive = 1900
    keep: Keep = "last"
    validation_questions: Count = 32
    patience: Positive | None = None
    retain_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    anchors: AnchorsSection | None = AnchorsSection()

    @model_validator(mode="after")
    def _words_to_balance(self) -> Self:
        if self.keep == "balanced" and not self.validation_questions:
            raise ValueError("keep: balanced weighs leak against words; set validation_questions to 32, say")
        return self

    @model_validator(mode="after")
    def _measure_to_improve(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience: needs a measure to improve; set keep to loss, leakage or balanced")
        return self

    @model_validator(mode="after")
    def _room_for_answers(self) -> Self:
        if self.max_prompt_length >= self.max_length:
            raise ValueError(
                f"max_prompt_length: {self.max_prompt_length} leaves no room for answers in a max_length of "
                f"{self.max_length}; set it lower, as 1900 of 2048"
            )
        return self


ANCHOR_WAYS = 4
"""Ways of asking in which each anchor stands in a round of baking."""


class BakeSection(Section):
    """Baking: the teacher's guided answers become the adapter's own, without a sentence and a second branch."""

    teacher: Literal["trained", "tuned"] = "trained"
    guidance: GuidanceField = Guidance(3.0, "prob")
    samples: Positive | None = None
    draws: Positive = 2
    strike_out: bool = True
    max_tokens: Positive = 64
    asked: Annotated[float, Field(ge=0, le=1)] = 0.7
    rounds: Positive = 2
    epochs: Positive = 2
    batch_size: Positive = 4
    learning_rate: Rate = 1e-3
    row_tokens: Positive = 1024
    gradient_checkpointing: bool = False
    save_steps: Positive = 50
    more_anchors: Count = 200
    anchors_per_step: Positive = 4
    anchor_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
