"""The one error that a user of nescio meets: a single line that says what is wrong, where, and how to fix it."""


class NescioError(Exception):
    """Bad input or a missing piece, said in one line.

    The command line prints it and exits with 2; a traceback is never shown for it.
    """


class NotInstalledError(NescioError):
    """Something optional is not installed, or cannot be imported."""
