"""How far a step of training is: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from bundle.progress import progress_lines

_LINE = "{desc}{n_fmt} of {total_fmt} {unit}s, {percentage:.0f}%, {remaining} left{postfix}"


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str, *, description: str = "", done: int = 0, leave: bool = True
) -> Iterator[Any]:
    """A tqdm bar on stderr; where that is no terminal, its state as lines, and one at its end.

    With `leave` false nothing stays of it when it ends.
    """
    is_terminal = sys.stderr.isatty()
    bar = tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        leave=leave,
        dynamic_ncols=is_terminal,
        file=sys.stderr if is_terminal else io.StringIO(),
        bar_format=None if is_terminal else _LINE,
    )
    with bar, progress_lines(lambda: str(bar)):
        yield bar
    if leave and not is_terminal:
        print(bar, file=sys.stderr, flush=True)
