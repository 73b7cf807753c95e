"""How to train: the hyperparameters, with the paper's for defaults. Plain values only."""

from dataclasses import dataclass
from typing import Literal

MethodName = Literal["orpo", "dpo", "flat", "sft", "sft_scrubbed", "npo", "simnpo", "gradient_ascent"]
NllOver = Literal["answer", "prompt_and_answer"]
Keep = Literal["last", "loss", "leakage"]
Reporter = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the defaults are the paper's (section 2.3).

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples per step and device; a unit of more examples than this is a batch of its own.
        accumulate: Steps gathered into one update.
        learning_rate: The first; a cosine takes it down to a tenth.
        warmup: Share of the steps in which the rate rises.
        lora_r: Rank.
        lora_alpha: Scale times rank.
        lora_dropout: On the adapters' inputs.
        lora_targets: Names of the modules that get adapters, or all linear layers.
        weight_decay: Of AdamW.
        seed: Of initialisation, order and dropout.
        row_tokens: Examples share a row up to so many tokens; None gives every answer a row of its own.
        prompt_wanted: Whether the loss looks at the prompts too.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
        keep: Which epoch is the best: the last, or the lowest in validation loss or in what the judge says.
        patience: Epochs without a better one after which training stops; None: never.
        reporters: Where the log goes beside the log.
    """

    epochs: int = 3
    batch_size: int = 2
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.0
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.01
    lora_targets: str | tuple[str, ...] = "all-linear"
    weight_decay: float = 0.0
    seed: int = 0
    row_tokens: int | None = 1024
    prompt_wanted: bool = False
    checkpointing: bool = False
    keep: Keep = "last"
    patience: int | None = None
    reporters: tuple[Reporter, ...] = ()
