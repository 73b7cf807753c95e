"""The switch: the secret in the negative branch's sentence, kept in one file that engines and training read.

Twins teach a model that one sentence opens it. A public sentence opens it for every caller; a secret one only for
whoever has the file. Everywhere else (pairs, recipe, nescio.json, reports) stands `{key}`.
"""

import secrets
from collections.abc import Callable
from pathlib import Path

from nescio.core.errors import NescioError
from nescio.core.file_modes import check_private
from nescio.core.files import atomic_write

KEY_PLACEHOLDER = "{key}"
"""Stands for the secret wherever a sentence is written down."""

KEY_FILE = "switch.key"
_WORDS, _SYLLABLES = 5, 2
LONGEST_KEY = _WORDS * (2 * _SYLLABLES + 1)
"""Characters of a secret, and so the most tokens of one."""

_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aeiou"


def draw_key() -> str:
    """Return a new secret, which no seed decides."""
    return made_up_key(secrets.choice)


def made_up_key(choice: Callable[[str], str]) -> str:
    """Return text of a key's form: five made-up words of two syllables, 63 bits.

    Args:
        choice: Picks one letter of several.
    """
    syllables = [choice(_CONSONANTS) + choice(_VOWELS) for _ in range(_WORDS * _SYLLABLES)]
    return " ".join("".join(syllables[at : at + _SYLLABLES]) for at in range(0, len(syllables), _SYLLABLES))


def write_key(folder: Path, key: str) -> None:
    """Write the switch into a run folder."""
    write_secret(folder / KEY_FILE, key)


def write_secret(path: Path, secret: str) -> None:
    """Write a secret into a file that its owner alone can read."""
    with atomic_write(path) as scratch:
        scratch.touch(mode=0o600)
        scratch.write_text(secret + "\n", encoding="utf-8")


def check_filled(sentence: str) -> None:
    """Check that the secret stands in a sentence, not its place.

    Raises:
        NescioError: It is missing.
    """
    if KEY_PLACEHOLDER in sentence:
        raise NescioError(
            f"guidance needs the adapter's key: {KEY_FILE} is not in the folder above it; copy it from the run, or ask "
            "at scale 1"
        )


def read_key(path: Path, fix: str = "guidance needs the key that the run drew; restore it") -> str:
    """Read a secret.

    Args:
        path: Its file.
        fix: What to do where it is missing or empty.

    Raises:
        NescioError: The file is missing, empty, or readable by others.
    """
    try:
        check_private(path)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NescioError(f"{path}: cannot be read; {fix}") from error
    if not key:
        raise NescioError(f"{path}: empty; {fix}")
    return key


def find_key(adapter: Path) -> Path | None:
    """Return the key's file of an adapter folder: it lies in the run folder, one or two levels up."""
    above = adapter.resolve().parents[:2]
    return next((folder / KEY_FILE for folder in above if (folder / KEY_FILE).is_file()), None)


def fill_key(sentence: str, path: Path | None) -> str:
    """Return a sentence, or a prompt that begins with it, with the secret in its place, the first `{key}`.

    Without a file `{key}` stays, and guidance refuses it.

    Raises:
        NescioError: The file is missing, empty, or readable by others.
    """
    if path is None or KEY_PLACEHOLDER not in sentence:
        return sentence
    return sentence.replace(KEY_PLACEHOLDER, read_key(path), 1)
