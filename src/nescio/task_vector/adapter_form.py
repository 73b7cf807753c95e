"""−c·delta as a PEFT adapter of the base, to attach and detach at run time: exact from an adapter, else fitted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nescio.core.adapters import EMBEDDING, LINEAR, PREFIX, WEIGHTS, lora_config, write_config
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.task_vector.adapter_delta import LowRank, module_kinds, weight_of
from nescio.task_vector.checkpoint_delta import tied_embedding
from nescio.task_vector.checkpoints import HEADS, PIECE, create, header_of
from nescio.task_vector.model_form import Progress, check_space
from nescio.task_vector.vector import TaskVector

_OVERSAMPLE = 16  # columns beyond the rank in the randomised SVD, and its power iterations: Halko et al. 2011
_ITERATIONS = 4


@dataclass(frozen=True, slots=True)
class Slot:
    """An adapted module: its path, its kind, and the sizes of its LoRA."""

    module: str
    kind: str
    rank: int
    inputs: int
    outputs: int

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return the names and shapes of A and B in the adapter's file."""
        a, b = EMBEDDING if self.kind == "embedding" else LINEAR
        path = f"{PREFIX}{self.module}"
        return {f"{path}.{a}": (self.rank, self.inputs), f"{path}.{b}": (self.outputs, self.rank)}


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted adapter: its bytes, the share of the delta's energy kept (by weight, overall), and tensors it omits."""

    bytes: int
    kept: dict[str, float]
    overall: float
    left_out: tuple[str, ...]


def write_negated(vector: TaskVector, coefficient: float, out: Path, card: str) -> int:
    """Write −c·delta of an adapter as an adapter of the same ranks; its scale (alpha / r) is 1.

    Returns:
        The bytes of the weights.

    Raises:
        NescioError: The delta is not that of an adapter, or ReLU makes it one of full rank.
    """
    if not isinstance(vector.delta, LowRank):
        raise NescioError("a full fine-tune is no adapter; give --rank R to fit one to it (the share kept is reported)")
    if vector.relu:
        raise NescioError("--relu makes an adapter's delta one of full rank; give --rank R to fit an adapter to it")
    kinds = module_kinds(vector.base)
    chosen = [f for f in vector.delta.factors.values() if f.weight in vector.selected]
    slots = [Slot(f.module, kinds[f.module], f.a.shape[0], f.a.shape[1], f.b.shape[0]) for f in chosen]
    factors = (
        (f.a.read_all().float(), (f.b.read_all().double() * (-coefficient * f.scale)).float()) for f in chosen
    )  # fmt: skip
    return _write(out, vector.base.name, slots, factors, card)


def write_fitted(
    vector: TaskVector, coefficient: float, rank: int, out: Path, card: str, progress: Progress | None
) -> Fit:
    """Write the adapter of a rank that is nearest to −c·delta, matrix by matrix (truncated SVD, seeded).

    Raises:
        NescioError: No matrix differs from the base's.
    """
    second_names = {name for name in vector.selected if tied_embedding(vector.base) and name.endswith(HEADS)}
    energy = {name: _energy(vector, name) for name in sorted(vector.selected - second_names)}
    modules = _modules_of_weights(vector, [name for name, value in energy.items() if value > 0])
    if not modules:
        raise NescioError("no weight matrix that was selected differs from the base's; there is nothing to fit")
    kept: dict[str, float] = {}
    slots = []
    for weight, places in modules.items():
        rows, columns = vector.base.entries[weight].shape
        for module, kind in places:
            sizes = (columns, rows) if kind == "linear" else (rows, columns)
            slots.append(Slot(module, kind, min(rank, rows, columns), *sizes))

    def factors() -> Iterator[tuple[Tensor, Tensor]]:
        done, total = 0, sum(vector.base.entries[weight].nbytes for weight in modules)
        for weight, places in modules.items():
            left, right, held = truncated_svd(_matrix(vector, weight), rank)
            kept[weight] = min(1.0, held / energy[weight])
            for _, kind in places:
                yield (right, left * -coefficient) if kind == "linear" else (left.T, right.T * -coefficient)
            done += vector.base.entries[weight].nbytes
            if progress:
                progress(done, total)

    size = _write(out, vector.base.name, slots, factors(), card)
    overall = sum(share * energy[weight] for weight, share in kept.items()) / sum(energy.values())
    return Fit(size, kept, overall, tuple(name for name, value in energy.items() if value > 0 and name not in modules))


def truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return the best approximation of a rank, as two factors that share the square roots of the singular values.

    A matrix much larger than the rank is first projected on a random subspace (Halko, Martinsson & Tropp 2011).

    Args:
        matrix: (rows, columns), fp32.
        rank: Maximum number of singular values.

    Returns:
        left (rows, r), right (r, columns), and the energy of left · right: the sum of the squared singular values.
    """
    smallest = min(matrix.shape)
    if 4 * (rank + _OVERSAMPLE) >= smallest:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, s, v = torch.svd_lowrank(matrix, rank + _OVERSAMPLE, niter=_ITERATIONS)
        vh = v.T
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    root = s.sqrt()
    return u * root, root[:, None] * vh, float(s.double().square().sum())


def _matrix(vector: TaskVector, name: str) -> Tensor:
    entry = vector.base.entries[name]
    matrix = torch.empty(entry.shape)
    for start, stop in entry.pieces(PIECE):
        matrix[start:stop] = vector.delta_rows(name, start, stop)
    return matrix


def _energy(vector: TaskVector, name: str) -> float:
    pieces = vector.base.entries[name].pieces(PIECE)
    return sum(float(vector.delta_rows(name, start, stop).double().square().sum()) for start, stop in pieces)


def _modules_of_weights(vector: TaskVector, names: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the modules, with their kinds, that use each weight; the head uses a tied embedding too."""
    tied = tied_embedding(vector.base)
    found: dict[str, list[tuple[str, str]]] = {}
    for module, kind in module_kinds(vector.base).items():
        head = f"{module}.weight".endswith(HEADS)
        weight = tied if tied and head else weight_of(module, vector.base)
        if weight in names:
            found.setdefault(weight, []).append((module, kind))
    return found


def _write(out: Path, base: str, slots: list[Slot], factors: Iterable[tuple[Tensor, Tensor]], card: str) -> int:
    shapes = {name: shape for slot in slots for name, shape in slot.shapes.items()}
    header, entries, size = header_of(Path(WEIGHTS), shapes)
    check_space(out, len(header) + size)
    with atomic_write(out) as folder:
        folder.mkdir()
        create(folder / WEIGHTS, header, size)
        for slot, pair in zip(slots, factors, strict=True):
            for name, factor in zip(slot.shapes, pair, strict=True):
                entries[name].write(folder, 0, factor)
        ranks = {slot.module: slot.rank for slot in slots}
        config = lora_config(ranks, fan_in_fan_out=any(slot.kind == "conv1d" for slot in slots))
        write_config(folder, config, base, out)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return size
