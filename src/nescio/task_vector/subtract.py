"""Subtract a fine-tune from its base and write the result, as a model or as an adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from nescio.core.callbacks import Note, Progress
from nescio.core.errors import NescioError
from nescio.task_vector.adapter_form import write_fitted, write_negated
from nescio.task_vector.model_form import write_model
from nescio.task_vector.vector import TaskVector, check_coefficient, open_vector


@dataclass(frozen=True, slots=True)
class Summary:
    """What `subtract` wrote.

    Attributes:
        out: The folder.
        tensors: Number of the base's tensors.
        changed: Number of those that it changed; of an adapter, of those that it carries.
        bytes: Bytes of the weights.
        kept: For a fitted adapter: share of the delta's energy (squared Frobenius norm) that it carries, by weight.
        kept_overall: The same share of all selected tensors.
        left_out: Tensors that no LoRA can carry; they count as lost.
    """

    out: Path
    tensors: int
    changed: int
    bytes: int
    kept: dict[str, float] = field(default_factory=dict)
    kept_overall: float | None = None
    left_out: tuple[str, ...] = ()


def subtract(
    base: str,
    tuned: str,
    out: Path,
    coefficient: float = 0.5,
    relu: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_adapter: bool = False,
    rank: int | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
) -> Summary:
    """Write base − c·(tuned − base) (paper, section 2.1).

    Args:
        base: The base model: folder, hub id or `smollm2`, in safetensors.
        tuned: The fine-tune of it: likewise, or a LoRA adapter of PEFT on that base.
        out: The folder to write; it must not exist.
        coefficient: c; the paper's is 0.5. −1 gives the tuned model.
        relu: Apply ReLU to the delta first.
        include: Shell patterns of tensor names to subtract from; none: all.
        exclude: Shell patterns of tensor names to leave as they are.
        as_adapter: Write −c·delta as a PEFT adapter of the base instead; exact, for a tuned side that is one.
        rank: Write the best adapter of this rank for −c·delta (truncated SVD of each matrix).
        progress: Called with bytes done and all bytes.
        note: Called with a line about files of the base's folder that were left behind.

    Raises:
        NescioError: The two do not belong together, the weights are not safetensors, `out` exists, the disk is too
            small, or an option does not fit; nothing is left at `out`.
    """
    check_coefficient(coefficient)
    if out.exists():
        raise NescioError(f"{out}: exists already; choose another --out")
    if rank is not None and rank < 1:
        raise NescioError(f"rank {rank}: must be 1 or more")
    vector = open_vector(base, tuned, relu, include, exclude)
    tensors = len(vector.base.entries)
    form = "The whole model."
    if rank is not None or as_adapter:
        form = "A PEFT adapter, exactly it." if rank is None else f"An adapter of rank {rank} fitted to it."
    card = _card(vector, coefficient, tuned, include, exclude, form)
    if rank is not None:
        fit = write_fitted(vector, coefficient, rank, out, card, progress)
        changed = len(fit.kept) if coefficient else 0
        return Summary(out, tensors, changed, fit.bytes, fit.kept, fit.overall, fit.left_out)
    if as_adapter:
        size = write_negated(vector, coefficient, out, card)
        return Summary(out, tensors, len(vector.selected) if coefficient else 0, size)
    changed = write_model(vector, coefficient, out, card, progress, note)
    return Summary(out, tensors, changed, vector.base.nbytes)


def _card(
    vector: TaskVector, coefficient: float, tuned: str, include: Sequence[str], exclude: Sequence[str], form: str
) -> str:
    """Return README.md of the result; of a folder's path only the last part is shown."""
    base = vector.base.name
    short = {name: Path(name).name if Path(name).exists() else name for name in (base, tuned)}
    hub = [f"base_model: {base}"] if base.count("/") == 1 and not Path(base).exists() else []
    limits = [
        f"- {text}: {', '.join(f'`{pattern}`' for pattern in patterns)}"
        for text, patterns in (("only the tensors that match", include), ("without those that match", exclude))
        if patterns
    ]
    lines = [
        "---", *hub, "tags: [task-arithmetic, unlearning]", "---", "", "# Subtracted model", "",
        f"base − {coefficient:g} · {'ReLU' * vector.relu}(tuned − base): forgetting via negation "
        f"(Ilharco et al. 2023). {form}", "",
        f"- base: {short[base]}", f"- tuned: {short[tuned]}", *limits, f"- made by nescio {version('nescio')}", "",
        "The licence is the base model's.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def merge_adapter(
    base: str, adapter: Path, out: Path, progress: Progress | None = None, note: Note | None = None
) -> None:
    """Write base + delta of a LoRA adapter as a model, in the base's type: the model that PEFT's merge gives.

    Args:
        base: The model that the adapter was trained on.
        adapter: A folder of plain LoRA.
        out: The folder to write; it must not exist.
        progress: Called with bytes done and all bytes.
        note: Called with a line about files of the base's folder that were left behind.

    Raises:
        NescioError: The adapter is more than plain LoRA or does not fit; nothing is left at `out`.
    """
    card = f"# Merged model\n\n{Path(base).name} with the LoRA adapter {adapter.name} merged into its weights.\n"
    write_model(open_vector(base, str(adapter)), -1.0, out, card, progress, note)
