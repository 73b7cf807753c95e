"""Registries: items of one kind by name, from this package's modules and from the entry points of other packages.

A decorator registers a built-in item; the modules of the registry's package are imported at the first look-up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from threading import RLock
from typing import Any, Generic, TypeVar, cast

from nescio.core.errors import NescioError, first_line

Item = TypeVar("Item")
Registered = TypeVar("Registered")


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of `nescio plugins`.

    Attributes:
        group: Entry-point group.
        name: Name of the item.
        origin: Package that brings it, with its version.
    """

    group: str
    name: str
    origin: str


class Registry(Generic[Item]):
    """Items of one kind by name.

    Args:
        group: Entry-point group, such as `nescio.losses`.
        noun: Word for one item in errors.
        package: Package whose modules register the built-in items.
        pattern: Glob for the names of those modules.
    """

    def __init__(self, group: str, noun: str, package: str, pattern: str = "*") -> None:
        self.group, self.noun = group, noun
        self._package, self._pattern = package, pattern
        self._items: dict[str, Item] = {}  # registered in this process
        self._loaded: dict[str, Item] = {}  # by entry points
        self._is_scanned = self._is_scanning = False
        self._lock = RLock()

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that registers an object under a name and returns it unchanged.

        Raises:
            NescioError: The name is taken by another object.
        """

        def decorate(item: Registered) -> Registered:
            # The decorated object keeps its exact type, which the registry does not check.
            known: object = self._items.setdefault(name, cast(Item, item))
            if known is not item:
                raise NescioError(f"{self.noun} {name!r} is registered twice; choose another name")
            return item

        return decorate

    def get(self, name: str) -> Item:
        """Return the item of a name; a built-in one takes precedence over an entry point.

        Raises:
            NescioError: The name is unknown, its package cannot be imported, or two packages bring it.
        """
        self._scan()
        if name in self._items:
            return self._items[name]
        if name not in self._loaded:
            found = [point for point in entry_points(group=self.group) if point.name == name]
            if not found:
                raise NescioError(f"{self.noun} {name!r}: unknown; known here: {', '.join(self.names())}")
            if len(origins := sorted(set(map(_origin, found)))) > 1:
                raise NescioError(f"{self.noun} {name!r}: brought by {' and by '.join(origins)}; uninstall one of them")
            self._loaded[name] = _load(found[0], self.noun)
        return self._loaded[name]

    def __contains__(self, name: str) -> bool:
        self._scan()
        return name in self._items or name in self._entry_points()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Return all names in alphabetical order; entry points are not loaded."""
        self._scan()
        return sorted({*self._items, *self._entry_points()})

    def listings(self) -> list[Listing]:
        """Return where each name comes from; an entry point that has a built-in one's name is never used."""
        outside = {name: _origin(point) for name, point in self._entry_points().items()}
        names = self.names()
        return [Listing(self.group, name, "nescio" if name in self._items else outside[name]) for name in names]

    def _scan(self) -> None:
        """Import the modules of the package once; other threads wait until it is done."""
        if self._is_scanned:
            return
        with self._lock:
            if self._is_scanned or self._is_scanning:  # a module may look something up during its import
                return
            self._is_scanning = True
            try:
                for module in iter_modules(import_module(self._package).__path__):
                    if fnmatch(module.name, self._pattern):
                        import_module(f"{self._package}.{module.name}")
                self._is_scanned = True
            finally:
                self._is_scanning = False

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}


def _load(point: EntryPoint, noun: str) -> Any:
    try:
        return point.load()
    except Exception as error:  # whatever another package raises while it is imported
        where = f"{noun} {point.name!r} of {_origin(point)}"
        raise NescioError(f"{where}: cannot be imported ({first_line(error)})") from error


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
