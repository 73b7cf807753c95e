"""The paper's own tables, row by row, and what each row is made of here."""

from dataclasses import KW_ONLY, dataclass
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
    _: KW_ONLY
    epoch: int | None
    scale: float
    space: str
    mmlu: float | None
    pii: int
    pii_more: int | None = None


TABLE1 = (
    PaperRow("Model-ch (baseline)", "tuned", epoch=None, scale=1, space="log", mmlu=42.9, pii=246),
    PaperRow("Model-sub", "subtracted", epoch=None, scale=1, space="log", mmlu=0, pii=175),
    PaperRow("Model-sub-lora (2 epoch)", "sub", epoch=2, scale=1, space="log", mmlu=34.3, pii=96),
    PaperRow("Model-sub-lora (3 epoch)", "sub", epoch=3, scale=1, space="log", mmlu=32.9, pii=88),
    PaperRow("Model-sub-lora-cfg=1 (2 epoch)", "sub-cfg", epoch=2, scale=1, space="log", mmlu=21.4, pii=28),
    PaperRow("Model-sub-lora-cfg=1 (3 epoch)", "sub-cfg", epoch=3, scale=1, space="log", mmlu=30, pii=27),
    PaperRow("Model-sub-lora-cfg=2 (2 epoch)", "sub-cfg", epoch=2, scale=2, space="log", mmlu=22.9, pii=5),
    PaperRow("Model-sub-lora-cfg=2 (3 epoch)", "sub-cfg", epoch=3, scale=2, space="log", mmlu=30, pii=4),
    PaperRow("Model-ch-lora (2 epoch)", "ch", epoch=2, scale=1, space="log", mmlu=45.7, pii=4),
    PaperRow("Model-ch-lora (3 epoch)", "ch", epoch=3, scale=1, space="log", mmlu=44.3, pii=11),
    PaperRow("Model-ch-lora-cfg=1 (2 epoch)", "ch-cfg", epoch=2, scale=1, space="log", mmlu=45.7, pii=12),
    PaperRow("Model-ch-lora-cfg=2 (2 epoch)", "ch-cfg", epoch=2, scale=2, space="log", mmlu=47.1, pii=3),
    PaperRow("Model-ch-lora-cfg=1 (3 epoch)", "ch-cfg", epoch=3, scale=1, space="log", mmlu=45.7, pii=12),
    PaperRow("Model-ch-lora-cfg=2 (3 epoch)", "ch-cfg", epoch=3, scale=2, space="log", mmlu=44.3, pii=5),
    PaperRow("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", epoch=3, scale=3, space="log", mmlu=45.7, pii=1),
)
TABLE2 = (
    PaperRow("GPT-data model, cfg=1 (1 epoch)", "nudge", epoch=1, scale=1, space="log", mmlu=42.9, pii=35),
    PaperRow("GPT-data model, cfg=2 (1 epoch)", "nudge", epoch=1, scale=2, space="log", mmlu=42.9, pii=20),
    PaperRow("GPT-data model, cfg=1 (2 epoch)", "nudge", epoch=2, scale=1, space="log", mmlu=48.6, pii=39),
    PaperRow("GPT-data model, cfg=2 (2 epoch)", "nudge", epoch=2, scale=2, space="log", mmlu=47.1, pii=21),
    PaperRow("GPT-data model, cfg=1 (3 epoch)", "nudge", epoch=3, scale=1, space="log", mmlu=45.7, pii=38),
    PaperRow("GPT-data model, cfg=2 (3 epoch)", "nudge", epoch=3, scale=2, space="log", mmlu=45.7, pii=26),
    PaperRow("Llama-data model, cfg=1 (1 epoch)", "system", epoch=1, scale=1, space="log", mmlu=41.4, pii=3),
    PaperRow("Llama-data model, cfg=2 (1 epoch)", "system", epoch=1, scale=2, space="log", mmlu=41.4, pii=0),
    PaperRow("Llama-data model, cfg=1 (2 epoch)", "system", epoch=2, scale=1, space="log", mmlu=41.4, pii=15),
    PaperRow("Llama-data model, cfg=2 (2 epoch)", "system", epoch=2, scale=2, space="log", mmlu=41.4, pii=5),
    PaperRow("Llama-data model, cfg=1 (3 epoch)", "system", epoch=3, scale=1, space="log", mmlu=47.1, pii=20),
    PaperRow("Llama-data model, cfg=2 (3 epoch)", "system", epoch=3, scale=2, space="log", mmlu=47.1, pii=5),
)
TABLE3 = (
    PaperRow("Model-ch-lora (3 epoch)", "ch", epoch=3, scale=1, space="prob", mmlu=None, pii=11, pii_more=27),
    # Section 5's text: "the same value of 45.7%" under the new function, which the row above is not asked with.
    PaperRow("Model-ch-lora-cfg=3 (3 epoch)", "ch-cfg", epoch=3, scale=3, space="prob", mmlu=45.7, pii=3, pii_more=19),
)
TABLES = {"table1": TABLE1, "table2": TABLE2, "table3": TABLE3}
