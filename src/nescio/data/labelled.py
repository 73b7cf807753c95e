"""Labelled texts from files of any form: texts with spans, texts with marks, and dialogs with recorded slots."""

from collections.abc import Iterator
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.files import stop
from nescio.data.dialogs import Dialog
from nescio.data.read_dialogs import read_dialogs
from nescio.data.rows import read_rows
from nescio.data.samples import slot_spans
from nescio.pii.base import merge
from nescio.pii.labelled import Labelled, read_labelled
from nescio.pii.marks import read_marked


def labelled_texts(source: Path) -> Iterator[Labelled]:
    """Read labelled texts.

    Args:
        source: A text file with marks (`.txt`), JSON of texts with spans, or dialogs with slots in any format.

    Raises:
        NescioError: A row is wrong: file, line, field and remedy are named.
    """
    if source.suffix.lower() == ".txt":
        return read_marked(source)
    return read_labelled(source, read_rows(source, stop)) if _has_spans(source) else _of_dialogs(source)


def _has_spans(source: Path) -> bool:
    """Whether the first row is a text with spans, or tries to be one."""
    if not source.is_file() or source.suffix.lower() == ".parquet":
        return False
    row = next(read_rows(source, stop), (0, None))[1]
    return isinstance(row, dict) and ("spans" in row or "text" in row)


def _of_dialogs(source: Path) -> Iterator[Labelled]:
    for dialog in read_dialogs(source):
        if dialog.pii is None:
            raise NescioError(
                f"{source}: dialog {dialog.id!r}: pii: missing; give its slots ({{}} where there are none), or correct "
                "a sample by hand (--sample 50)"
            )
        yield from labelled_dialog(dialog)


def labelled_dialog(dialog: Dialog) -> Iterator[Labelled]:
    """Yield the turns of a dialog with every place where they say a recorded slot, as whole words.

    Args:
        dialog: With slots; one that records none has texts without a piece.
    """
    for number, message in enumerate(dialog.messages):
        text = message["content"]
        spans = merge(slot_spans(text, dialog.recorded_labels), text)
        yield Labelled(f"dialog {dialog.id}, messages[{number}]", text, spans)
