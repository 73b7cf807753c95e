"""Stages: skipped when done, redone when what they read changes, resumed after a failure or a kill at any moment."""

import json
from pathlib import Path

import pytest

from nescio.core.alone import alone
from nescio.core.errors import NescioError
from nescio.core.files import file_hash
from nescio.pipeline.stage_cache import Stage, StageCache, order, read_manifest


def stage(work: object, depends: object = 1, inputs: tuple[str, ...] = ()) -> Stage:
    return Stage("make", ("out/a.txt",), depends, inputs, work)  # type: ignore[arg-type]


class Work:
    """Writes its output; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "out").mkdir(exist_ok=True)
        (folder / "out/a.txt").write_text(f"{self.calls}")


def test_done_once(tmp_path: Path) -> None:
    work = Work()
    assert StageCache(tmp_path, 0).run(stage(work))
    assert not StageCache(tmp_path, 0).run(stage(work))
    assert work.calls == 1
    assert not list(tmp_path.glob(".*"))


def test_redone_when_something_it_depends_on_changes(tmp_path: Path) -> None:
    work = Work()
    (tmp_path / "in.txt").write_text("1")
    assert StageCache(tmp_path, 0).run(stage(work, inputs=("in.txt",)))
    (tmp_path / "in.txt").write_text("2")
    assert StageCache(tmp_path, 0).run(stage(work, inputs=("in.txt",)))
    assert StageCache(tmp_path, 0).run(stage(work, depends=2, inputs=("in.txt",)))
    (tmp_path / "out/a.txt").unlink()
    assert StageCache(tmp_path, 0).run(stage(work, depends=2, inputs=("in.txt",)))
    assert work.calls == 4


def test_a_folder_that_another_stage_wrote_is_not_its_output(tmp_path: Path) -> None:
    work = Work()
    StageCache(tmp_path, 0).run(stage(work))
    (tmp_path / "b.txt").write_text("another's")
    elsewhere = Stage("make", ("b.txt",), 1, (), lambda folder: (folder / "b.txt").write_text("own") and None)
    assert StageCache(tmp_path, 0).run(elsewhere)
    assert (tmp_path / "b.txt").read_text() == "own"


def test_a_failed_stage_finds_what_it_left(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half.txt").write_text("kept")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        StageCache(tmp_path, 0).run(stage(fails))
    assert not (tmp_path / "out").exists()

    def goes_on(folder: Path) -> None:
        assert (folder / "half.txt").read_text() == "kept"
        Work()(folder)

    assert StageCache(tmp_path, 0).run(stage(goes_on))


def test_its_seconds_are_those_of_all_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("nescio.pipeline.stage_cache.time.monotonic", lambda: now)

    def killed(folder: Path) -> None:
        nonlocal now
        now += 60
        raise KeyboardInterrupt

    def goes_on(folder: Path) -> None:
        nonlocal now
        now += 5
        Work()(folder)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            StageCache(tmp_path, 0).run(stage(killed))
    StageCache(tmp_path, 0).run(stage(goes_on))
    (record,) = read_manifest(tmp_path / "manifest.json")["stages"].values()
    assert record["seconds"] == 125


def test_another_key_does_not_inherit(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half.txt").write_text("old")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        StageCache(tmp_path, 0).run(stage(fails))

    def fresh(folder: Path) -> None:
        assert not (folder / "half.txt").exists()
        Work()(folder)

    assert StageCache(tmp_path, 0).run(stage(fresh, depends=2))
    assert not list(tmp_path.glob(".make.*"))


@pytest.mark.parametrize("moved", [False, True])
def test_a_kill_between_work_and_manifest_costs_nothing(
    tmp_path: Path, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StageCache, "_record", killed) if moved else patched.setattr(
            "nescio.pipeline.stage_cache._move", killed
        )
        with pytest.raises(KeyboardInterrupt):
            StageCache(tmp_path, 0).run(stage(work))
    assert StageCache(tmp_path, 0).run(stage(work))
    assert work.calls == 1
    assert (tmp_path / "out/a.txt").read_text() == "1"
    assert "make" in json.loads((tmp_path / "manifest.json").read_text())["stages"]


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"stages": []}', '{"stages": {"data": 3}}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(NescioError, match="damaged; delete it"):
        StageCache(tmp_path, 0)


@pytest.mark.parametrize("name", ["spent.json", "finished.json"])
def test_an_empty_record_of_the_time_is_one_line(tmp_path: Path, name: str) -> None:
    work = stage(Work())
    folder = StageCache(tmp_path, 0).working_folder(work)
    assert folder is not None
    folder.mkdir()
    (folder / name).write_text("")
    with pytest.raises(NescioError, match=rf"{name}: not a JSON object .*; delete it, and the same command goes on$"):
        StageCache(tmp_path, 0).run(work)
    (folder / name).unlink()
    assert StageCache(tmp_path, 0).run(work)


def test_until() -> None:
    stages = [Stage(name, (), None, (), lambda folder: None) for name in ("a", "b", "c")]
    assert [s.name for s in order(stages, "b")] == ["a", "b"]
    assert len(order(stages, None)) == 3
    with pytest.raises(NescioError, match="the stages are a, b, c"):
        order(stages, "d")


def test_inputs_are_read_once_to_know_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def telling(path: Path) -> str:
        read.append(path)
        return file_hash(path)

    monkeypatch.setattr("nescio.pipeline.stage_cache.file_hash", telling)
    (tmp_path / "in.txt").write_text("1")
    assert StageCache(tmp_path, 0).run(stage(Work(), inputs=("in.txt",)))
    assert read.count(tmp_path / "in.txt") == 1


def test_all_processes_know_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    folder = StageCache(tmp_path, 0).working_folder(stage(Work()))
    assert folder is not None and folder.parent == tmp_path
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("nescio.pipeline.stage_cache._move", killed)
        StageCache(tmp_path, 0).run(stage(Work()))
    assert folder.exists() and StageCache(tmp_path, 0).working_folder(stage(Work())) is None
    StageCache(tmp_path, 0).run(stage(Work()))
    assert StageCache(tmp_path, 0).working_folder(stage(Work())) is None


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with alone(tmp_path / "run"):
        with pytest.raises(NescioError, match="another process works in this folder"), alone(tmp_path / "run"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "run"):
        assert not list((tmp_path / "run").iterdir()), "it leaves nothing"
