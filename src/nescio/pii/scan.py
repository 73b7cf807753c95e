"""Counting personal data in a file of texts."""

from collections import Counter
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import read_jsonl
from nescio.pii.base import Detector

TEXT_FIELDS = ("text", "answer", "content")
_BATCH = 256


def scan(path: Path, detector: Detector, field: str | None = None) -> dict[str, Any]:
    """Count personal data by label.

    Args:
        path: JSON lines, each a text or an object with a text field.
        detector: Decides what counts.
        field: The object's text field; None: the first of `TEXT_FIELDS` that it has.

    Returns:
        `{"total": n, "labels": {label: n}}`, the commonest label first.

    Raises:
        NescioError: A line is neither; file, line and remedy are named.
    """
    labels: Counter[str] = Counter()
    batch: list[str] = []
    for number, row in read_jsonl(path):
        batch.append(_text(path, number, row, field))
        if len(batch) == _BATCH:
            labels.update(span.label for spans in detector.find(batch) for span in spans)
            batch = []
    labels.update(span.label for spans in detector.find(batch) for span in spans)
    return {"total": labels.total(), "labels": dict(labels.most_common())}


def _text(path: Path, number: int, row: Any, field: str | None) -> str:
    if isinstance(row, str):
        return row
    fields = TEXT_FIELDS if field is None else (field,)
    for name in fields:
        if isinstance(row, dict) and isinstance(row.get(name), str):
            return str(row[name])
    raise NescioError(f"{path}:{number}: neither a text nor an object with {' or '.join(fields)}; name it with --field")
