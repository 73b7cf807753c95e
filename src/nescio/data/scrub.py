"""Texts without their personal data: masked, or with stand-ins in its place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.files import atomic_write, check_no_folder, stop, write_jsonl
from nescio.core.prompts import Message
from nescio.core.text import said_places
from nescio.data.dialogs import Dialog
from nescio.data.read_dialogs import read_dialogs
from nescio.data.rows import SUFFIXES, read_rows
from nescio.data.samples import slot_spans
from nescio.data.texts import Kind, paragraphs, readable, text_field
from nescio.pii.base import Detector, Span, mask, merge
from nescio.pii.stand_ins import StandIns

_BATCH = 64
_KEPT = "id"  # at the top of a row it names the row, and is no text


@dataclass
class Scrubber:
    """Writes files again without the personal data that a detector finds in them.

    Recorded slots of conversations are personal data whatever the detector says.

    Attributes:
        detector: Decides what is personal data.
        stand_ins: What is put in its place; None: its label, `[PERSON]`.
        field: Field of a row that must hold its text. Every other text of the row is scrubbed as well.
        pieces: How many pieces were replaced.
    """

    detector: Detector
    stand_ins: StandIns | None = None
    field: str | None = None
    pieces: int = 0

    def files(self, source: Path, out: Path, note: Callable[[str], None]) -> int:
        """Scrub a file, or each file of a folder; conversations are written in nescio's format, rows as JSON lines.

        Args:
            source: What `read_texts` reads.
            out: The file to write, or the folder where the source is a folder or a glob.
            note: Told of files that are left out because they are no text, or are read with another.

        Returns:
            How many files were written.

        Raises:
            NescioError: A file is missing or wrong, or would be written over.
        """
        if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
            raise NescioError(f"{out}: is what is read, or in it; choose another place to write to")
        written = set[Path]()
        for path, kind in readable(source, self.field, note):
            inside = path.relative_to(source) if source.is_dir() and path != source else Path(path.name)
            target = out if source.is_file() or path == source else out / inside.with_name(_name(path, kind))
            if target in written or target.resolve() == path.resolve():
                raise NescioError(f"{path}: {target} is written or read already; rename the file, or write elsewhere")
            check_no_folder(target)
            self._file(path, kind, target)
            written.add(target)
        return len(written)

    def _file(self, path: Path, kind: Kind, target: Path) -> None:
        if kind == "text":
            parts = self._replaced(paragraphs(path))
            with atomic_write(target) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
        elif kind == "dialogs":
            write_jsonl(target, (dialog.as_row() for dialog in self._dialogs(read_dialogs(path))))
        else:
            write_jsonl(target, self._rows(path))

    def _rows(self, path: Path) -> Iterator[Any]:
        rows = read_rows(path, stop)
        while batch := list(islice(rows, _BATCH)):
            for number, row in batch:
                if not isinstance(row, str):
                    text_field(row, self.field, f"{path}:{number}")
            replaced = iter(self._replaced([text for _, row in batch for text in _texts(row)]))
            yield from (_mapped(row, _in_turn(replaced)) for _, row in batch)

    def _dialogs(self, dialogs: Iterator[Dialog]) -> Iterator[Dialog]:
        while batch := list(islice(dialogs, _BATCH)):
            turns = [(message["content"], dialog.recorded_labels) for dialog in batch for message in dialog.messages]
            known = [slot_spans(text, pieces) for text, pieces in turns]
            replaced = iter(self._replaced([text for text, _ in turns], known))
            for dialog in batch:
                messages = [Message(role=message["role"], content=next(replaced)) for message in dialog.messages]
                yield replace(dialog, messages=messages, pii=self._slots(dialog, messages))

    def _replaced(self, texts: Sequence[str], known: Sequence[Sequence[Span]] | None = None) -> list[str]:
        put = self.stand_ins.put if self.stand_ins else mask
        replaced = []
        for number, (text, found) in enumerate(zip(texts, self.detector.find(texts), strict=True)):
            spans = merge([*(known[number] if known else []), *found], text)
            self.pieces += len(spans)
            replaced.append(put(text, spans))
        return replaced

    def _slots(self, dialog: Dialog, messages: Iterable[Message]) -> dict[str, str] | None:
        """The recorded slots with their stand-ins, as far as the dialog still says them; masks are no values."""
        if dialog.pii is None or self.stand_ins is None:
            return None
        labels = dialog.recorded_labels
        slots = {
            slot: self.stand_ins.put(value, [Span(0, len(value), labels[value], value)])
            for slot, value in dialog.pii.items()
        }
        said = [message["content"] for message in messages]
        return {slot: value for slot, value in slots.items() if any(said_places(text, value) for text in said)}


def _name(path: Path, kind: Kind) -> str:
    """The name of the file that is written for a file of a folder."""
    if kind == "text":
        return path.name
    suffix = next((suffix for suffix in sorted(SUFFIXES, key=len) if path.name.lower().endswith(suffix)), "")
    return f"{path.name[: len(path.name) - len(suffix)]}.jsonl"


def _texts(row: Any) -> list[str]:
    """Every text and number in a row, in the order of `_mapped`."""
    texts = list[str]()

    def keep(text: str) -> str:
        texts.append(text)
        return text

    _mapped(row, keep)
    return texts


def _in_turn(texts: Iterator[str]) -> Callable[[str], str]:
    """Return what puts the next text in the place of each."""
    return lambda text: next(texts)


def _mapped(row: Any, put: Callable[[str], str]) -> Any:
    """Put every text and number of a row through a function, at any depth; its own fields and `id` stay.

    Keys of the objects in it are texts, too: an index of people has their names there.
    """
    if not isinstance(row, dict):
        return _mapped_below(row, put)
    return {
        key: each if key == _KEPT and not isinstance(each, dict | list) else _mapped_below(each, put)
        for key, each in row.items()
    }


def _mapped_below(value: Any, put: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        mapped = dict[str, Any]()
        for key, each in value.items():
            mapped[_apart(put(key), mapped)] = _mapped_below(each, put)
        return mapped
    if isinstance(value, list):
        return [_mapped_below(each, put) for each in value]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        text = put(str(value))
        return value if text == str(value) else text  # a number stays one
    return value


def _apart(key: str, taken: Mapping[str, Any]) -> str:
    """Number a key that stands there already: of two masked ones, neither value is lost."""
    numbered = (f"{key} {number}" for number in count(len(taken) + 1))
    return key if key not in taken else next(each for each in numbered if each not in taken)
