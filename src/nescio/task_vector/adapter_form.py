"""−c·delta as a PEFT adapter of the base, to attach and detach at run time: exact from an adapter, else fitted."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nescio.core.adapters import EMBEDDING, LINEAR, PREFIX, WEIGHTS, lora_config, write_config
from nescio.core.callbacks import Progress
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.task_vector.adapter_delta import LowRank, module_kinds, weight_of
from nescio.task_vector.checkpoint_delta import tied_embedding
from nescio.task_vector.checkpoints import HEADS, PIECE
from nescio.task_vector.model_form import check_space
from nescio.task_vector.vector import TaskVector

_OVERSAMPLE = 16  # columns beyond the rank in the randomised SVD, and its power iterations: Halko et al. 2011
_ITERATIONS = 4


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted adapter.

    Attributes:
        bytes: Bytes of its weights.
        kept: Share of the delta's energy that it carries, by weight.
        overall: The same share of all selected tensors.
        left_out: Tensors that no LoRA can carry.
    """

    bytes: int
    kept: dict[str, float]
    overall: float
    left_out: tuple[str, ...]


def write_negated(vector: TaskVector, coefficient: float, out: Path, card: str) -> int:
    """Write −c·delta of an adapter as an adapter of the same ranks; its scaling is 1.

    Returns:
        The bytes of the weights.

    Raises:
        NescioError: The delta is not that of an adapter, ReLU makes it one of full rank, or −c·delta is not finite.
    """
    if not isinstance(vector.delta, LowRank):
        raise NescioError(
            "a full fine-tune is not an adapter; give --rank R to fit one to it (the share kept is reported)"
        )
    if vector.relu:
        raise NescioError("--relu makes an adapter's delta one of full rank; give --rank R to fit an adapter to it")
    adapter = _Adapter({}, {}, set())
    for weight, f in vector.delta.factors.items():
        if weight in vector.selected:
            adapter.add(f.module, f.kind, f.a.float(), (f.b.double() * (-coefficient * f.scale)).float())
    return adapter.write(out, vector.base.name, card)


def write_fitted(
    vector: TaskVector, coefficient: float, rank: int, out: Path, card: str, progress: Progress | None
) -> Fit:
    """Write the adapter of a rank that is nearest to −c·delta, matrix by matrix (truncated SVD, seeded).

    Raises:
        NescioError: No matrix differs from the base's, or a delta is not finite.
    """
    entries = vector.base.entries
    # 1) Energy of each selected tensor's delta; a head that is the embedding counts once.
    twice = {name for name in vector.selected if tied_embedding(vector.base) and name.endswith(HEADS)}
    energy = {name: _energy(vector, name) for name in sorted(vector.selected - twice)}
    if broken := next((name for name, value in energy.items() if not math.isfinite(value)), None):
        raise NescioError(f"{broken}: the delta is not finite; is the fine-tune damaged?")
    # 2) The modules that use each tensor that differs.
    modules = _modules_of_weights(vector, [name for name, value in energy.items() if value > 0])
    if not modules:
        raise NescioError("no weight matrix that was selected differs from the base's; there is nothing to fit")
    # 3) Fit matrix by matrix.
    adapter, kept, done = _Adapter({}, {}, set()), dict[str, float](), 0
    total = sum(entries[weight].nbytes for weight in modules)
    for weight, places in modules.items():
        left, right, held = truncated_svd(_matrix(vector, weight), rank)
        kept[weight] = min(1.0, held / energy[weight])
        for module, kind in places:
            a, b = (right, left) if kind == "linear" else (left.T, right.T)
            adapter.add(module, kind, a, b * -coefficient)
        done += entries[weight].nbytes
        if progress:
            progress(done, total)
    overall = sum(share * energy[weight] for weight, share in kept.items()) / sum(energy.values())
    left_out = tuple(name for name, value in energy.items() if value > 0 and name not in modules)
    return Fit(adapter.write(out, vector.base.name, card), kept, overall, left_out)


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


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter in memory, without alpha: its tensors by name, the ranks by module, and the kinds of its modules."""

    tensors: dict[str, Tensor]
    ranks: dict[str, int]
    kinds: set[str]

    def add(self, module: str, kind: str, a: Tensor, b: Tensor) -> None:
        """Add a module's A `[r, in]` and B `[out, r]`.

        Raises:
            NescioError: They are not finite.
        """
        if not (a.isfinite().all() and b.isfinite().all()):
            raise NescioError(
                f"{module}: coefficient * delta is not finite in {b.dtype}; is the fine-tune damaged, or the "
                "coefficient too large?"
            )
        names = EMBEDDING if kind == "embedding" else LINEAR
        for name, factor in zip(names, (a, b), strict=True):
            self.tensors[f"{PREFIX}{module}.{name}"] = factor.contiguous()
        self.ranks[module] = a.shape[0]
        self.kinds.add(kind)

    def write(self, out: Path, base: str, card: str) -> int:
        """Write the folder, all or nothing, and return the bytes of the weights."""
        size = sum(tensor.nbytes for tensor in self.tensors.values())
        check_space(out, size)
        with atomic_write(out) as folder:
            folder.mkdir()
            save_file(self.tensors, folder / WEIGHTS, {"format": "pt"})
            write_config(folder, lora_config(self.ranks, fan_in_fan_out="conv1d" in self.kinds), base, out)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return size
