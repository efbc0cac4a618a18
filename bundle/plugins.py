"""Tables of plug-ins: the names that a person may choose, and the class that each stands for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class PluginError(ValueError):
    """A name that is not in the table, or a plug-in whose library is missing."""


class Plugin(NamedTuple):
    """Where the class of a plug-in is, and what it needs."""

    target: str
    """`module:Class`; the module is imported when the name is first chosen."""
    extra: str = ""
    """The extra of the distribution that installs what the module imports; empty for none."""


class Plugins(Generic[T]):
    """One table of names, such as the formats of an export.

    A folder of plug-ins holds its contract in `base.py`, one file for each plug-in, and this table
    in `__init__.py`. Modules are imported on first use, because many need an optional library.
    """

    def __init__(self, kind: str, table: Mapping[str, Plugin], also: tuple[str, ...] = ()) -> None:
        """Makes a table. Messages call one of its plug-ins `kind`, such as `format`. `also` are
        names that a person may choose and that stand for no one plug-in, such as `auto`."""
        self.kind = kind
        self.table = dict(table)
        self._also = also

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, in the order of the table. The first one is the default."""
        return tuple(self.table)

    @property
    def choices(self) -> tuple[str, ...]:
        """Every name that a person may choose."""
        return (*self._also, *self.table)

    def check(self, name: str) -> str:
        """Returns a name that may be chosen. Raises PluginError for any other."""
        if name not in self.choices:
            close = difflib.get_close_matches(name, self.choices, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise PluginError(f"{self.kind}: {name!r} is none of {', '.join(self.choices)}{hint}")
        return name

    def load(self, name: str) -> type[T]:
        """Imports the class that a name stands for.

        Raises PluginError for a name that is not in the table. Raises it also when a library that
        the plug-in needs is not installed; the message then names the extra that installs it.
        """
        module, _, attribute = self.table[self.check(name)].target.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            extra = self.table[name].extra
            if not extra or (error.name or "").partition(".")[0] == module.partition(".")[0]:
                raise
            raise PluginError(self.missing(name, error.name)) from None
        plugin: type[T] = getattr(loaded, attribute)
        return plugin

    def missing(self, name: str, library: str | None) -> str:
        """The message for a library that the plug-in `name` needs and that is not installed."""
        return (
            f"{self.kind} {name}: {library} is not installed; "
            f"pip install 'sparseclip[{self.table[name].extra}]'"
        )
