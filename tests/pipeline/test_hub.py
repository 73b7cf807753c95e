"""Pushing an export to a hub on loopback, by huggingface_hub's own client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import REPO, FakeHub, running
from huggingface_hub import constants

from nescio.core.errors import NescioError
from nescio.pipeline import hub


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export, as far as the hub is concerned."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (tmp_path / "out/model-f16.gguf").write_bytes(b"GGUF" * 100)
    return tmp_path / "out"


def test_an_export_is_pushed_as_private_and_whole(fake: FakeHub, folder: Path) -> None:
    hub.check(REPO, public=False)
    assert fake.private == {}, "a check makes no repository"
    assert hub.push(folder, REPO, public=False) == f"{fake.url}/{REPO}"
    assert fake.private == {REPO: True}
    assert fake.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.check(REPO, public=False)  # once more into the private repository


def test_a_public_repository_is_asked_for(fake: FakeHub, folder: Path) -> None:
    fake.private[REPO] = False
    with pytest.raises(NescioError, match="the repository is public; add --public"):
        hub.check(REPO, public=False)
    hub.check(REPO, public=True)
    del fake.private[REPO]
    hub.push(folder, REPO, public=True)
    assert fake.private == {REPO: False}


def test_what_the_hub_refuses_is_one_line_and_the_export_stays(
    fake: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.refuses_commits = True
    with pytest.raises(NescioError, match=rf"the hub refuses \(.*`hf upload {REPO} {folder}` pushes it") as error:
        hub.push(folder, REPO, public=False)
    assert "\n" not in str(error.value) and len(list(folder.iterdir())) == 2
    with pytest.raises(NescioError, match=r"--push no name at all: the hub refuses \("):
        hub.check("no name at all", public=False)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    with pytest.raises(
        NescioError, match=r"--push me/mine: no token for the hub; run `hf auth login`, or set HF_TOKEN"
    ):
        hub.check(REPO, public=False)


def test_a_hub_that_does_not_answer_is_one_line(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NescioError, match="the hub refuses") as error:
        hub.check(REPO, public=False)
    assert "\n" not in str(error.value) and hub.licence_of("me/base") is None


def test_the_licence_of_a_base_is_read_from_its_card(fake: FakeHub) -> None:
    fake.private |= {"me/base": False, "me/silent": False}
    assert [hub.licence_of(name) for name in ("me/base", "me/silent", "me/gone")] == ["mit", None, None]
