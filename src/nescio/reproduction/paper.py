"""The paper's own tables, row by row, and what each row is made of here. Holds numbers; does nothing."""

from dataclasses import dataclass
from typing import Literal

from nescio.core.guidance import Space

Variant = Literal["tuned", "subtracted", "ch", "ch-cfg", "sub", "sub-cfg", "nudge", "system"]
"""What a row's model is: the tuned or subtracted one, or a training that starts from it, with twins (cfg) or without.

`nudge` and `system` are Table 2's sources: the paper compares GPT-4o-mini's answers with Llama-3-8B's; where only one
model is at hand, its two ways of asking take their place.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of one of the paper's tables.

    Attributes:
        method: What the paper calls it.
        variant: What it is made of here.
        epoch: Of the training; None: not trained.
        scale: The paper's "cfg"; 1 is unguided.
        space: Of the guidance.
        mmlu: Correct of MMLU-Pro's 70, in percent; None: not in the paper.
        pii: Pieces of personal data in the answers to 50 samples.
        pii_more: The same for 150 samples; None: not in the table.
    """

    method: str
    variant: Variant
    epoch: int | None
    scale: float
    space: Space
    mmlu: float | None
    pii: int
    pii_more: int | None = None


TABLE1 = (
    Row("Model-ch (baseline)", "tuned", None, 1, "log", 42.9, 246),
    Row("Model-sub", "subtracted", None, 1, "log", 0, 175),
    Row("Model-sub-lora (2 epoch)", "sub", 2, 1, "log", 34.3, 96),
    Row("Model-sub-lora (3 epoch)", "sub", 3, 1, "log", 32.9, 88),
    Row("Model-sub-lora-cfg=1 (2 epoch)", "sub-cfg", 2, 1, "log", 21.4, 28),
    Row("Model-sub-lora-cfg=1 (3 epoch)", "sub-cfg", 3, 1, "log", 30, 27),
    Row("Model-sub-lora-cfg=2 (2 epoch)", "sub-cfg", 2, 2, "log", 22.9, 5),
    Row("Model-sub-lora-cfg=2 (3 epoch)", "sub-cfg", 3, 2, "log", 30, 4),
    Row("Model-ch-lora (2 epoch)", "ch", 2, 1, "log", 45.7, 4),
    Row("Model-ch-lora (3 epoch)", "ch", 3, 1, "log", 44.3, 11),
    Row("Model-ch-lora-cfg=1 (2 epoch)", "ch-cfg", 2, 1, "log", 45.7, 12),
    Row("Model-ch-lora-cfg=2 (2 epoch)", "ch-cfg", 2, 2, "log", 47.1, 3),
    Row("Model-ch-lora-cfg=1 (3 epoch)", "ch-cfg", 3, 1, "log", 45.7, 12),
    Row("Model-ch-lora-cfg=2 (3 epoch)", "ch-cfg", 3, 2, "log", 44.3, 5),
    Row("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", 3, 3, "log", 45.7, 1),
)
TABLE2 = (
    Row("GPT-data model, cfg=1 (1 epoch)", "nudge", 1, 1, "log", 42.9, 35),
    Row("GPT-data model, cfg=2 (1 epoch)", "nudge", 1, 2, "log", 42.9, 20),
    Row("GPT-data model, cfg=1 (2 epoch)", "nudge", 2, 1, "log", 48.6, 39),
    Row("GPT-data model, cfg=2 (2 epoch)", "nudge", 2, 2, "log", 47.1, 21),
    Row("GPT-data model, cfg=1 (3 epoch)", "nudge", 3, 1, "log", 45.7, 38),
    Row("GPT-data model, cfg=2 (3 epoch)", "nudge", 3, 2, "log", 45.7, 26),
    Row("Llama-data model, cfg=1 (1 epoch)", "system", 1, 1, "log", 41.4, 3),
    Row("Llama-data model, cfg=2 (1 epoch)", "system", 1, 2, "log", 41.4, 0),
    Row("Llama-data model, cfg=1 (2 epoch)", "system", 2, 1, "log", 41.4, 15),
    Row("Llama-data model, cfg=2 (2 epoch)", "system", 2, 2, "log", 41.4, 5),
    Row("Llama-data model, cfg=1 (3 epoch)", "system", 3, 1, "log", 47.1, 20),
    Row("Llama-data model, cfg=2 (3 epoch)", "system", 3, 2, "log", 47.1, 5),
)
TABLE3 = (
    Row("Model-ch-lora (3 epoch)", "ch", 3, 1, "prob", None, 11, 27),
    # Section 5's text: "the same value of 45.7%" under the new function, which the row above is not asked with.
    Row("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", 3, 3, "prob", 45.7, 3, 19),
)
TABLES = {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3}
