"""Functions that long work calls while it goes on."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with pieces done and pieces in all."""

Tick = Callable[[int, int, str], None]
"""Called with pieces done, pieces in all, and a word."""

Note = Callable[[str], None]
"""Called with a line that the user should read."""
