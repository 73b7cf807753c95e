"""The delta of a full checkpoint to its base, and the checks that the two belong together."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor

from nescio.core.errors import NescioError, first_line
from nescio.task_vector.checkpoints import EMBEDDINGS, HEADS, Checkpoint, Entry, first_three

COPIED = ("I64", "I32", "I16", "BOOL")  # position tables and masks: no weights, taken from the base
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Difference:
    """The delta of a full checkpoint; `entries` holds the tuned tensors by the base's names."""

    entries: dict[str, Entry]

    @property
    def names(self) -> frozenset[str]:
        """Return all tensors."""
        return frozenset(self.entries)

    def rows(self, name: str, base: Tensor, start: int, stop: int) -> Tensor:
        """Return rows `start` to `stop` of tuned − base, in fp64; `base` holds these rows of the base."""
        return self.entries[name].read(start, stop).double().sub_(base)


def difference(base: Checkpoint, tuned: Checkpoint) -> Difference:
    """Return the delta of two full checkpoints.

    Raises:
        NescioError: Names, shapes, types or vocabularies differ; the first three are named.
    """
    refuse_quantised(tuned)
    entries = _tied(dict(tuned.entries), tuned.is_tied, base)
    mine = _tied(dict(base.entries), base.is_tied, base)
    own_heads = [name for name in entries if name.endswith(HEADS) and name not in mine]
    _refuse(tuned, "a head of its own", own_heads, "the base's head is its embedding; untie the base first")
    _refuse(tuned, "tensors missing", [name for name in mine if name not in entries], "is it a fine-tune of this base?")
    _refuse(tuned, "tensors too many", [name for name in entries if name not in mine], "is it one of this base?")
    pairs = [(name, entries[name], entry) for name, entry in mine.items()]
    shapes = [f"{name} {_times(e)} (base {_times(b)})" for name, e, b in pairs if e.shape != b.shape]
    vocabulary = any(text.split(" ")[0].endswith(HEADS + EMBEDDINGS) for text in shapes)
    fix = "the vocabularies differ: resize_token_embeddings brings both to one size" if vocabulary else "another size?"
    _refuse(tuned, "shapes that differ", shapes, fix)
    types = [f"{name} {e.dtype} (base {b.dtype})" for name, e, b in pairs if e.dtype != b.dtype]
    _refuse(tuned, "types that differ", types, "save both with from_pretrained(…, dtype=…).save_pretrained")
    _refuse(tuned, "vocabulary entries that differ", _other_tokens(base.folder, tuned.folder), "another tokenizer?")
    return Difference(entries)


def _refuse(tuned: Checkpoint, what: str, names: list[str], fix: str) -> None:
    if names:
        raise NescioError(f"{tuned.name}: {what}: {first_three(names)}; {fix}")


def _times(entry: Entry) -> str:
    return "×".join(map(str, entry.shape)) or "scalar"


def tied_embedding(base: Checkpoint) -> str | None:
    """Return the embedding's name if the base's head is the embedding."""
    return next((name for name in base.entries if name.endswith(EMBEDDINGS)), None) if base.is_tied else None


def _tied(entries: dict[str, Entry], tied: bool, base: Checkpoint) -> dict[str, Entry]:
    """Make a tied head an alias of the embedding if the base stores a head; else drop it."""
    embedding = next((name for name in entries if name.endswith(EMBEDDINGS)), None)
    if not tied or embedding is None:
        return entries
    for head in [name for name in entries if name.endswith(HEADS) and name not in base.entries]:
        del entries[head]
    for head in [name for name in base.entries if name.endswith(HEADS)]:
        entries[head] = entries[embedding]
    return entries


def refuse_quantised(checkpoint: Checkpoint) -> None:
    """Refuse quantised weights: arithmetic on codes and scales is meaningless.

    Raises:
        NescioError: The first three are named.
    """
    odd = [f"{name} ({e.dtype})" for name, e in checkpoint.entries.items() if e.dtype not in FLOATS + COPIED]
    if odd or "quantization_config" in checkpoint.config:
        raise NescioError(
            f"{checkpoint.name}: quantised{': ' + first_three(odd) if odd else ''}; give the unquantised checkpoint"
        )


def _other_tokens(base: Path, tuned: Path) -> list[str]:
    """Return tokens with different ids in the two tokenizers; a token that only one of them has is harmless."""
    paths = base / "tokenizer.json", tuned / "tokenizer.json"
    if not all(path.is_file() for path in paths) or paths[0].read_bytes() == paths[1].read_bytes():
        return []
    mine, theirs = ({number: token for token, number in _vocabulary(path).items()} for path in paths)
    return [
        f"id {number} {theirs[number]!r} (base {token!r})"
        for number, token in sorted(mine.items())
        if number in theirs and theirs[number] != token
    ]


def _vocabulary(path: Path) -> dict[str, int]:
    try:
        return Tokenizer.from_file(str(path)).get_vocab()
    except Exception as error:  # the library raises nothing more specific
        raise NescioError(f"{path}: no tokenizer ({first_line(error)}); fetch or save the model again") from error
