"""Memory of this process: what the C library holds on to, and what Python looks through.

glibc keeps freed memory in arenas, several for each core, for later allocations of the same thread.
A server that loads and frees models from new threads would grow with every reload.

Python's collector looks through every object of the process now and then: 0.1 s in which no call is
answered. What a server has imported and loaded lives long, and its calls leave no circles behind.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import threading
from collections.abc import Callable

_M_ARENA_MAX = -8
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1
"""Parameters of mallopt(3)."""

_ARENAS = 2
"""Few, so that what one load frees serves the next one, and more than one, so that the threads of
the engine rarely wait for each other."""

KEPT_BLOCK = 32 * 2**20
"""Bytes of the largest freed block that malloc keeps, the most that glibc takes. The pixels of an
image are 600 KB: by default their memory goes back to the system after every run, and is asked for
again page by page."""
KEPT_TOP = 64 * 2**20
"""Bytes that may be free at the end of an arena before they go back to the system."""

_NEW_OBJECTS = 10_000
"""How many more objects there are when the collector looks at the new ones; Python's own value of
700 is passed by a few calls."""


_settling = threading.Lock()


def prepare_memory() -> None:
    """Bounds the number of arenas, lets them keep what images need, and makes collections rare; to
    be called before threads are started."""
    gc.set_threshold(_NEW_OBJECTS)
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, KEPT_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, KEPT_TOP)


def settle_memory() -> None:
    """To be called when a model was loaded or freed: gives back what is free, and takes what is
    left out of the collector's sight until the next call. Holds the GIL for about 0.1 s."""
    # One at a time: collect() does nothing while another thread collects, and freeze() would then
    # hide what is garbage from both.
    with _settling:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
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
