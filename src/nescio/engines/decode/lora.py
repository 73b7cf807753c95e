"""LoRA adapters of several requests in one batch: each row with its own adapter or none.

The A matrices of all loaded adapters are concatenated, and so are their B matrices. Between the two products, a mask
zeroes the ranks of other rows' adapters. That is two small batched products per module however the batch is mixed, over
linear layers of any kind; PEFT's mixing costs half a step and refuses quantised layers. The products are batched by
row, so a row's numbers do not depend on its neighbours.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nescio.core.adapters import base_weight_of, factor_names, read_config, read_weights
from nescio.core.errors import NescioError
from nescio.core.one_bit import expand, is_one_bit


@dataclass(frozen=True, slots=True)
class _Adapter:
    """One adapter: `{module: (A [r, in], scale * B [out, r])}`, its largest rank, and its other tensors by name."""

    factors: dict[str, tuple[Tensor, Tensor]]
    rank: int
    others: dict[str, Tensor]


class LoraLayer(nn.Module):
    """A linear layer or an embedding (`base`), with the adapters' A `[in, ranks]` (`a`) and B `[ranks, out]` (`b`)."""

    def __init__(self, base: nn.Module, adapters: "Adapters") -> None:
        super().__init__()
        self.base = base
        self.a = self.b = torch.zeros(0)
        # In a list it is no submodule; otherwise the tree of modules would contain itself.
        self._adapters = [adapters]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer of rows `[rows, tokens, in]` with each row's own adapter."""
        out: Tensor = self.base(x)
        mask = self._adapters[0].mask
        if mask is None:
            return out
        if x.dtype == torch.long:
            inner = nn.functional.embedding(x, self.a)
        else:
            inner = torch.bmm(x, self.a.expand(len(x), -1, -1))
        return torch.baddbmm(out, inner * mask, self.b.expand(len(x), -1, -1))


class Adapters:
    """The adapters loaded onto a model.

    Args:
        model: The model; a module is wrapped when the first adapter names it.

    Attributes:
        mask: Mask `[rows, 1, ranks]` of the current batch; None if no row has an adapter.
        version: Changes whenever the factors of the layers do.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._modules = dict(model.named_modules())
        self._layers: dict[str, LoraLayer] = {}
        self._loaded: dict[int, _Adapter] = {}
        self._next = 0
        self.mask: Tensor | None = None
        self.version = 0

    def load(self, folder: Path) -> int:
        """Load a PEFT adapter folder and return the number by which rows name it.

        Raises:
            NescioError: It is no LoRA adapter or does not fit the model; the error names the first module that differs.
        """
        adapter = self._checked(folder)
        number, self._next = self._next, self._next + 1
        self._loaded[number] = adapter
        for name in adapter.factors:
            if name not in self._layers:
                parent, _, leaf = name.rpartition(".")
                self._layers[name] = LoraLayer(self._modules[name], self)
                setattr(self._modules[parent], leaf, self._layers[name])
        self._stack()
        return number

    def merge(self, folder: Path) -> bool:
        """Add a PEFT adapter to the model's weights, if it adapts plain linear layers alone; return whether it does.

        A head that shares its weight with the embedding is no such layer, since the sum would change both.

        Raises:
            NescioError: As for `load`.
        """
        adapter = self._checked(folder)
        owners = Counter(id(weight) for module in self._modules.values() for weight in module.parameters(recurse=False))
        layers = {name: self._modules[name] for name in adapter.factors}
        if not all(type(layer) is nn.Linear and owners[id(layer.weight)] == 1 for layer in layers.values()):
            return False
        for name, layer in layers.items():
            a, b = (side.to(layer.weight.device, layer.weight.dtype) for side in adapter.factors[name])
            layer.weight.data += b @ a
        return True

    def drop(self, number: int) -> None:
        """Drop an adapter."""
        del self._loaded[number]
        self._stack()

    @contextmanager
    def rows(self, numbers: Sequence[int | None]) -> Iterator[None]:
        """Attach its adapter, or none, to each row of a batch; a single number applies to all rows."""
        if any(number is not None for number in numbers):
            spans = [torch.full((adapter.rank,), float(number)) for number, adapter in self._loaded.items()]
            wanted = torch.tensor([-1.0 if number is None else float(number) for number in numbers])
            mask = (wanted[:, None] == torch.cat(spans)[None, :])[:, None, :]
            self.mask = mask.to(self._model.device, self._model.dtype)
        try:
            yield
        finally:
            self.mask = None

    def _checked(self, folder: Path) -> _Adapter:
        adapter = _read(folder)
        for name, (a, b) in adapter.factors.items():
            self._check(folder, name, a, b)
        for name, tensor in adapter.others.items():
            if not self._is_copy(name, tensor):
                raise NescioError(f"{folder}: {name} is no LoRA weight; merge the adapter instead")
        adapter.others.clear()
        return adapter

    def _stack(self) -> None:
        kind = {"device": self._model.device, "dtype": self._model.dtype}
        for name, layer in self._layers.items():
            outputs, inputs = _sizes(layer.base)
            none = (torch.zeros(0, inputs), torch.zeros(outputs, 0))
            pairs = [(*adapter.factors.get(name, none), adapter.rank) for adapter in self._loaded.values()]
            a = torch.cat([torch.zeros(0, inputs), *(_grown(a, rank, 0) for a, _, rank in pairs)])
            b = torch.cat([torch.zeros(outputs, 0), *(_grown(b, rank, 1) for _, b, rank in pairs)], 1)
            layer.a, layer.b = a.T.contiguous().to(**kind), b.T.contiguous().to(**kind)
        self.version += 1

    def _is_copy(self, name: str, tensor: Tensor) -> bool:
        """Return whether a tensor is the model's own weight, which PEFT stores beside adapters of heads or embeddings.

        The engine may hold the weight in half precision, or in int8, so the two are compared within its rounding.
        """
        module = self._modules.get(base_weight_of(name))
        module = module.base if isinstance(module, LoraLayer) else module
        own = getattr(module, "weight", None)
        if not isinstance(own, Tensor) or own.shape != tensor.shape:
            return False
        rounding = max(1e-5, getattr(module, "rounding", 0.0))
        return torch.allclose(own.float().cpu(), tensor.float(), rtol=2**-8, atol=rounding)

    def _check(self, folder: Path, name: str, a: Tensor, b: Tensor) -> None:
        module = self._modules.get(name)
        if module is None:
            raise NescioError(f"{folder}: the adapter does not fit the model: it has no module {name}")
        outputs, inputs = _sizes(module)
        if (b.shape[0], a.shape[1]) != (outputs, inputs):
            raise NescioError(
                f"{folder}: the adapter does not fit the model: {name} is {inputs} to {outputs}, the adapter's "
                f"{a.shape[1]} to {b.shape[0]}"
            )


def _grown(side: Tensor, rank: int, axis: int) -> Tensor:
    missing = rank - side.shape[axis]
    return nn.functional.pad(side, (0, 0, 0, missing) if axis == 0 else (0, missing))


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return outputs and inputs of a linear layer of any kind, a Transformers Conv1D, or an embedding."""
    if isinstance(module, nn.Embedding):
        return module.embedding_dim, module.num_embeddings
    own: Any = module
    if hasattr(own, "out_features"):
        return own.out_features, own.in_features
    return (own.nf, own.nx) if hasattr(own, "nf") else (0, 0)


def _read(folder: Path) -> _Adapter:
    config = read_config(folder)
    if special := config.special():
        raise NescioError(f"{folder}: {', '.join(special)}: more than plain LoRA is not served here; merge it instead")
    tensors = expand(folder) if is_one_bit(folder) else read_weights(folder)
    modules, others = factor_names(tensors)
    if not modules:
        raise NescioError(f"{folder}: the adapter holds no weights; write it again")
    factors = {}
    for module, names in modules.items():
        a, b = tensors[names.a].float(), tensors[names.b].float()  # [r, in], [out, r]
        factors[module] = (a, b * config.scaling(module, len(a)))
    return _Adapter(factors, max(len(a) for a, _ in factors.values()), {name: tensors[name] for name in others})
