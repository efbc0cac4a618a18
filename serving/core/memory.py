"""Memory of this process that the C library holds on to after it was freed.

glibc keeps freed memory in arenas, several for each core, for later allocations of the same thread.
A server that loads and frees models from new threads would grow with every reload.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

_M_ARENA_MAX = -8
"""A parameter of mallopt(3)."""

_ARENAS = 2
"""Few, so that what one load frees serves the next one, and more than one, so that the threads of
the engine rarely wait for each other."""


def limit_arenas() -> None:
    """Bounds the number of arenas; to be called before threads are started."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


def return_freed_memory() -> None:
    """Gives freed memory back to the system; takes milliseconds and does not hold the GIL."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


@functools.cache
def _function(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of this name, such as on macOS."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
    return function
