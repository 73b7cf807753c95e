"""What the paper's detector counts in the same answers, beside the count of the run's own."""

from collections.abc import Sequence
from typing import Any

from nescio.core.errors import NotInstalledError
from nescio.evaluation.base import Found, Measure, Task
from nescio.evaluation.columns import Column, measures
from nescio.pii.registry import load_detector


@measures.register("leakage_paper")
class LeakagePaper(Measure):
    """Personal data in the answers as the paper counts it (section 2.2); nothing where the run itself counts so."""

    columns = (
        Column(
            key="pii_paper", header="PII as in the paper", kind="count", place="main_if_measured",
            meaning="pieces that the detector of the paper, spaCy without four labels, finds in the answers",
        ),
    )  # fmt: skip

    def score(self, task: Task, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Count the pieces of each row."""
        name = task.detector.name
        if name.startswith(("paper", "spacy:")) and " + " not in name:
            return [{} for _ in found]
        try:
            paper = load_detector("paper")
        except NotInstalledError as error:
            task.note(f"PII is not counted as in the paper: {error}")
            return [{} for _ in found]
        return [{"pii_paper": sum(map(len, paper.find(one.answers)))} for one in found]
