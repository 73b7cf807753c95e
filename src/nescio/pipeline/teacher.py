"""What a run has in teacher/ and adapter/: trained on pairs alone, the adapter is the teacher; baked, it has one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from nescio.core.adapters import read_notes
from nescio.core.errors import NescioError
from nescio.core.files import atomic_write
from nescio.pipeline.forget import refuse_retraining
from nescio.pipeline.stage_cache import Stage, StageCache, read_manifest


def _is_baked(adapter: Path) -> bool:
    return adapter.exists() and "baked" in read_notes(adapter)


def keep_teacher(out: Path) -> None:
    """Copy a run's adapter that is not baked into teacher/: it was trained on pairs, and baking takes its place.

    What an earlier baking left there may be of another training: it was stopped, and the adapter trained again.

    Raises:
        NescioError: The adapter was made to forget people, or is baked and its teacher is gone.
    """
    adapter, teacher = out / "adapter", out / "teacher"
    trained = read_manifest(out / "manifest.json")["stages"].get("train", {}).get("outputs", {})
    if not adapter.exists() or (teacher.exists() and (_is_baked(adapter) or "teacher" in trained)):
        return
    refuse_retraining(out, "baking")
    if _is_baked(adapter):
        raise NescioError(
            f"{teacher}: is missing, and the adapter is a baked one; put it back, or run the recipe again"
        )
    with atomic_write(teacher) as scratch:
        shutil.copytree(adapter, scratch)


def check_not_baked(out: Path, stages: Sequence[Stage]) -> None:
    """Refuse to take a baked adapter for the trained one, which a recipe without baking has in its place.

    Args:
        out: The run's folder.
        stages: Those of the recipe that are to be done.

    Raises:
        NescioError: One of them would.
    """
    if any("adapter" in (*stage.inputs, *stage.outputs) for stage in stages) and _is_baked(out / "adapter"):
        raise NescioError(
            f"{out / 'adapter'}: is a baked one, and this recipe does not bake; leave its section bake in, or give "
            "another --out"
        )


def stages_done(out: Path, seed: int) -> StageCache:
    """Return what is finished in a run's folder; where it was baked afterwards, what was trained stands in teacher/."""
    cache = StageCache(out, seed)
    if _is_baked(out / "adapter") and (out / "teacher").exists():
        cache.rename("train", "adapter", "teacher")
    return cache
