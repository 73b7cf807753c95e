"""The Hugging Face hub, as far as an export needs it: may it be pushed there, and push it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nescio.core.errors import NescioError, first_line


def check(repo: str, public: bool) -> None:
    """Check that a repository can be pushed to, before minutes of work.

    Args:
        repo: `OWNER/NAME`; it need not exist.
        public: Whether everybody may see it.

    Raises:
        NescioError: There is no token, the hub refuses it or the name, or the repository is public and must not be.
    """
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise NescioError(f"--push {repo}: no token for the hub; run `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    with _one_line(repo):
        api.whoami()
        is_public = api.repo_exists(repo) and not api.model_info(repo).private
    if is_public and not public:
        raise NescioError(f"--push {repo}: the repository is public; add --public, or name another")


def push(folder: Path, repo: str, public: bool) -> str:
    """Push a folder as one commit.

    Returns:
        The address of the repository.

    Raises:
        NescioError: The hub refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _one_line(repo, f"; the export is whole in {folder}: `hf upload {repo} {folder}` pushes it"):
        url = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export of nescio")
    return str(url)


def licence_of(repo: str) -> str | None:
    """Return the licence that a model's card on the hub names; None where it names none or the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        with _one_line(repo):
            card = HfApi().model_info(repo).card_data
    except NescioError:
        return None
    return None if card is None else card.license


@contextmanager
def _one_line(repo: str, more: str = "") -> Iterator[None]:
    """Turn what the client raises into one line."""
    try:
        yield
    except Exception as error:  # the client's, or those of the HTTP library under it, which differs between versions
        raise NescioError(f"--push {repo}: the hub refuses ({first_line(error)}){more}") from error
