"""The paper's own tables, row by row, and what each row is made of here."""

from dataclasses import dataclass
from typing import Literal

Variant = Literal["tuned", "subtracted", "ch", "ch-cfg", "sub", "sub-cfg", "nudge", "system"]
"""The model of a row: the tuned or subtracted one, or a training that starts from it, with twins (cfg) or without.

`nudge` and `system` are Table 2's sources. The paper compares GPT-4o-mini's answers with Llama-3-8B's; where there is
only one model, its two ways of asking take their place.
"""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row of one of the paper's tables.

    Attributes:
        method: The paper's name of the row.
        variant: The model of the row.
        epoch: Epoch of the training; None if the model is not trained.
        scale: The paper's "cfg"; 1 is unguided.
        space: Guidance space.
        mmlu: Percentage of MMLU-Pro's 70 questions answered correctly; None if the paper has no figure.
        pii: Pieces of personal data in the answers to 50 samples.
        pii_more: The same for 150 samples; None if the paper has no figure.
    """

    method: str
    variant: Variant
    epoch: int | None
    scale: float
    space: str
    mmlu: float | None
    pii: int
    pii_more: int | None = None


TABLE1 = (
    PaperRow("Model-ch (baseline)", "tuned", None, 1, "log", 42.9, 246),
    PaperRow("Model-sub", "subtracted", None, 1, "log", 0, 175),
    PaperRow("Model-sub-lora (2 epoch)", "sub", 2, 1, "log", 34.3, 96),
    PaperRow("Model-sub-lora (3 epoch)", "sub", 3, 1, "log", 32.9, 88),
    PaperRow("Model-sub-lora-cfg=1 (2 epoch)", "sub-cfg", 2, 1, "log", 21.4, 28),
    PaperRow("Model-sub-lora-cfg=1 (3 epoch)", "sub-cfg", 3, 1, "log", 30, 27),
    PaperRow("Model-sub-lora-cfg=2 (2 epoch)", "sub-cfg", 2, 2, "log", 22.9, 5),
    PaperRow("Model-sub-lora-cfg=2 (3 epoch)", "sub-cfg", 3, 2, "log", 30, 4),
    PaperRow("Model-ch-lora (2 epoch)", "ch", 2, 1, "log", 45.7, 4),
    PaperRow("Model-ch-lora (3 epoch)", "ch", 3, 1, "log", 44.3, 11),
    PaperRow("Model-ch-lora-cfg=1 (2 epoch)", "ch-cfg", 2, 1, "log", 45.7, 12),
    PaperRow("Model-ch-lora-cfg=2 (2 epoch)", "ch-cfg", 2, 2, "log", 47.1, 3),
    PaperRow("Model-ch-lora-cfg=1 (3 epoch)", "ch-cfg", 3, 1, "log", 45.7, 12),
    PaperRow("Model-ch-lora-cfg=2 (3 epoch)", "ch-cfg", 3, 2, "log", 44.3, 5),
    PaperRow("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", 3, 3, "log", 45.7, 1),
)
TABLE2 = (
    PaperRow("GPT-data model, cfg=1 (1 epoch)", "nudge", 1, 1, "log", 42.9, 35),
    PaperRow("GPT-data model, cfg=2 (1 epoch)", "nudge", 1, 2, "log", 42.9, 20),
    PaperRow("GPT-data model, cfg=1 (2 epoch)", "nudge", 2, 1, "log", 48.6, 39),
    PaperRow("GPT-data model, cfg=2 (2 epoch)", "nudge", 2, 2, "log", 47.1, 21),
    PaperRow("GPT-data model, cfg=1 (3 epoch)", "nudge", 3, 1, "log", 45.7, 38),
    PaperRow("GPT-data model, cfg=2 (3 epoch)", "nudge", 3, 2, "log", 45.7, 26),
    PaperRow("Llama-data model, cfg=1 (1 epoch)", "system", 1, 1, "log", 41.4, 3),
    PaperRow("Llama-data model, cfg=2 (1 epoch)", "system", 1, 2, "log", 41.4, 0),
    PaperRow("Llama-data model, cfg=1 (2 epoch)", "system", 2, 1, "log", 41.4, 15),
    PaperRow("Llama-data model, cfg=2 (2 epoch)", "system", 2, 2, "log", 41.4, 5),
    PaperRow("Llama-data model, cfg=1 (3 epoch)", "system", 3, 1, "log", 47.1, 20),
    PaperRow("Llama-data model, cfg=2 (3 epoch)", "system", 3, 2, "log", 47.1, 5),
)
TABLE3 = (
    PaperRow("Model-ch-lora (3 epoch)", "ch", 3, 1, "prob", None, 11, 27),
    # Section 5's text: "the same value of 45.7%" under the new function, which the row above is not asked with.
    PaperRow("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", 3, 3, "prob", 45.7, 3, 19),
)
TABLES = {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3}
