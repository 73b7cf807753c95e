"""Training settings, with the paper's values as defaults."""

from dataclasses import dataclass, field
from typing import Literal

NllOver = Literal["answer", "prompt_and_answer"]
Keep = Literal["last", "loss", "leakage", "balanced"]
Reporter = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """The adapter.

    Attributes:
        r: Rank.
        alpha: Scale times rank.
        dropout: Dropout on the adapters' inputs.
        targets: Names of the modules that get adapters, or all linear layers but the head.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.01
    targets: str | list[str] = "all-linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train; the defaults are the paper's (section 2.3). Names are those of the recipe.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples per step and device; a unit of more examples than this is a batch of its own.
        gradient_accumulation: Steps gathered into one update.
        learning_rate: Peak; a cosine takes it down to a tenth.
        warmup: Number of warm-up steps, or their share if below 1.
        lora: The adapter.
        weight_decay: Weight decay of AdamW.
        seed: Seed of initialisation, order and dropout.
        row_tokens: Examples share a row of up to this many tokens; None: each answer has a row of its own.
        prompt_wanted: Whether the loss looks at the prompts too.
        gradient_checkpointing: Compute activations again in the backward pass instead of storing them.
        keep: The epoch that is the result: the last, or the one of lowest validation loss, of lowest leakage, or of
            the lowest sum of what leaks and what is no longer answered.
        patience: Epochs without improvement after which training stops; None: never.
        report_to: Reporters that get the log too.
        save_steps: Steps between checkpoints, with `keep: last` alone; None: one an epoch.
        bf16: Whether products are made in bf16 (weights of the adapter, sums and losses stay fp32); on a GPU that has
            bf16 they are anyway.
        states_at: Depth of the layer whose hidden states the loss looks at, as a share of all layers.
    """

    epochs: int = 3
    batch_size: int = 2
    gradient_accumulation: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.0
    lora: LoraSettings = field(default_factory=LoraSettings)
    weight_decay: float = 0.0
    seed: int = 0
    row_tokens: int | None = 1024
    prompt_wanted: bool = False
    gradient_checkpointing: bool = False
    keep: Keep = "last"
    patience: int | None = None
    report_to: list[Reporter] = field(default_factory=list)
    save_steps: int | None = None
    bf16: bool = False
    states_at: float | None = None
