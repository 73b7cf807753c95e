"""The one error that a user of nescio meets: a single line that says what is wrong, where, and how to fix it."""


class NescioError(Exception):
    """Bad input or a missing piece, said in one line.

    The command line prints it and exits with 2; a traceback is never shown for it.
    """


class NotInstalledError(NescioError):
    """Something optional is not installed, or cannot be imported."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, 300 characters at most."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
