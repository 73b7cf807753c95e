"""Optional libraries: import one, or say which extra of nescio brings it."""

from importlib import import_module
from typing import Any

from nescio.core.errors import NotInstalledError, first_line


def require(module: str, extra: str, needed_by: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: Full name of the module.
        extra: Extra of nescio that installs the library.
        needed_by: What needs it, in the user's words, such as `detector spacy:en_core_web_sm`.

    Raises:
        NotInstalledError: The library is not installed, or fails while it is imported.
    """
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or library
        raise NotInstalledError(
            f"{needed_by}: {missing} is not installed; run `pip install 'nescio[{extra}]'`"
        ) from error
    except ImportError as error:
        raise NotInstalledError(
            f"{needed_by}: {library} cannot be imported ({first_line(error)}); "
            f"run `pip install --upgrade 'nescio[{extra}]'`"
        ) from error
