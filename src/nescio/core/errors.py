"""The one error a user of nescio meets: a single line that says what, where and the mend. Knows nothing of the rest."""


class NescioError(Exception):
    """Bad input or a missing piece, said in one line.

    The command line prints it and exits with 2; a traceback is never shown for it.
    """
