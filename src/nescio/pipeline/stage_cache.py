"""Stages of a run folder: skipped when finished, resumed when killed, their outputs moved into place in the end.

A stage is finished when the manifest holds its key, the hash of all it depends on, and its outputs exist. It works in a
folder of its own. A killed stage leaves that folder, and the next run goes on in it.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nescio.core.errors import NescioError
from nescio.core.file_modes import let_umask_decide
from nescio.core.files import file_hash, fingerprint, read_object, write_json
from nescio.core.full_disk import full_disk

_PACKAGES = ("nescio", "torch", "transformers", "peft", "spacy")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: Its name, as in `--until`.
        outputs: Files and folders that it writes, relative to the run folder.
        depends: Plain data that decides the result: parts of the recipe, model identities.
        inputs: Outputs of earlier stages that it reads; their content decides the result too.
        work: Writes the outputs into the folder that it is given.
    """

    name: str
    outputs: tuple[str, ...]
    depends: Any
    inputs: tuple[str, ...]
    work: Callable[[Path], None]


class StageCache:
    """What is finished in one run folder, and its manifest.

    Args:
        root: The run folder.
        seed: Recorded in the manifest.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self._path = root / "manifest.json"
        self.manifest = read_manifest(self._path) | {"seed": seed}

    def run(self, stage: Stage) -> bool:
        """Do a stage unless it is finished.

        Returns:
            Whether there was anything to do.
        """
        key = self._key(stage)
        if self._is_recorded(stage, key):
            return False
        folder = self._folder(stage, key)
        # 1) Do the work, in the stage's own folder.
        if not _is_finished(folder):
            self._drop_other_folders(stage, folder)
            folder.mkdir(parents=True, exist_ok=True)
            with _timed(folder / "spent.json"), full_disk(folder):
                stage.work(folder)
            (folder / "spent.json").replace(folder / "finished.json")
        # 2) Move the outputs into place. A kill from here on costs nothing: the next run repeats the moves.
        seconds = _seconds(folder / "finished.json")
        for output in stage.outputs:
            _move(folder / output, self.root / output)
        # 3) Record the stage as finished.
        self._record(stage, key, seconds)
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def _key(self, stage: Stage) -> str:
        return fingerprint([stage.depends, {name: file_hash(self.root / name) for name in stage.inputs}])

    def working_folder(self, stage: Stage) -> Path | None:
        """Working folder of an unfinished stage; None if it is done."""
        key = self._key(stage)
        folder = self._folder(stage, key)
        return None if self._is_recorded(stage, key) or _is_finished(folder) else folder

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage is finished, with the inputs and settings of now."""
        return self._is_recorded(stage, self._key(stage))

    def moving(self, names: str, but: Stage) -> list[Path]:
        """Return the working folders of stages that a kill stopped while their outputs were moved into place.

        Args:
            names: Pattern of the stages' names.
            but: A stage whose folder, with the inputs and settings of now, is left out.
        """
        known = {self.root / f".{name}.{own.get('key')}" for name, own in self.manifest["stages"].items()}
        known.add(self._folder(but, self._key(but)))
        return [folder for folder in self.root.glob(f".{names}.*") if _is_finished(folder) and folder not in known]

    def drop(self, stage: Stage) -> None:
        """Forget that a stage was finished: its outputs were changed since, and it is to be done again."""
        self.manifest["stages"].pop(stage.name, None)

    def rename(self, stage: str, output: str, today: str) -> None:
        """Note that an output of a finished stage was moved to another place of the run folder."""
        outputs = self.manifest["stages"].get(stage, {}).get("outputs", {})
        if output in outputs:
            outputs[today] = outputs.pop(output)

    def _folder(self, stage: Stage, key: str) -> Path:
        return self.root / f".{stage.name}.{key}"

    def _is_recorded(self, stage: Stage, key: str) -> bool:
        known = self.manifest["stages"].get(stage.name, {})
        # A folder that another stage wrote may stand where this one, under the same key, would write now.
        if known.get("key") != key or not known.get("outputs", {}).keys() >= set(stage.outputs):
            return False
        return all((self.root / output).exists() for output in stage.outputs)

    def _drop_other_folders(self, stage: Stage, own: Path) -> None:
        """Remove the working folders that this stage left under other keys."""
        for old in self.root.glob(f".{stage.name}.*"):
            if old != own:
                shutil.rmtree(old, ignore_errors=True)

    def _record(self, stage: Stage, key: str, seconds: float) -> None:
        outputs = {output: file_hash(self.root / output) for output in stage.outputs}
        self.manifest["stages"][stage.name] = {"key": key, "seconds": seconds, "outputs": outputs}
        self.manifest["versions"] = {name: _version(name) for name in _PACKAGES}
        write_json(self._path, self.manifest)


@contextmanager
def _timed(path: Path) -> Iterator[None]:
    """Add the time of the `with` block to what earlier attempts took, also where it fails or is interrupted."""
    before = _seconds(path) if path.exists() else 0.0
    started = time.monotonic()
    try:
        yield
    finally:
        write_json(path, {"seconds": round(before + time.monotonic() - started, 2)})


def _seconds(path: Path) -> float:
    """Return what `_timed` wrote; a machine that lost its power may leave an empty file."""
    return float(read_object(path, "delete it, and the same command goes on").get("seconds", 0.0))


def order(stages: Sequence[Stage], until: str | None) -> list[Stage]:
    """Return the stages up to and including `until`; all of them without it.

    Raises:
        NescioError: There is no such stage.
    """
    names = [stage.name for stage in stages]
    if until is None:
        return list(stages)
    if until not in names:
        raise NescioError(f"--until {until}: no such stage; the stages are {', '.join(names)}")
    return list(stages[: names.index(until) + 1])


def _is_finished(folder: Path) -> bool:
    return (folder / "finished.json").exists()


def _move(source: Path, target: Path) -> None:
    """Move an output into place, unless a run that was killed has already moved it."""
    if not source.exists():
        return
    let_umask_decide(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # it goes with the working folder: a kill leaves the old one, or the new one, somewhere
        old = source.with_name(f".old-{source.name}")
        shutil.rmtree(old, ignore_errors=True)
        target.replace(old)
    source.replace(target)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run folder; an empty one where there is none.

    Raises:
        NescioError: It is damaged.
    """
    if not path.exists():
        return {"stages": {}, "versions": {}}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for stage in manifest["stages"].values():
            stage.get("key")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise NescioError(f"{path}: damaged; delete it to do the stages again") from error
    return manifest


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run: a stage was finished in it."""
    return bool(read_manifest(folder / "manifest.json")["stages"])


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None
