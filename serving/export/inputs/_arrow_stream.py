"""Batches of an Arrow stream, as Hugging Face's data sets are, in any order."""

from __future__ import annotations

import io
import itertools
from typing import Any, NamedTuple

from pyarrow import ArrowException, ipc


class _Range(NamedTuple):
    """The bytes of one message."""

    start: int
    end: int


class ArrowStreamGroups:
    """See RowGroups. A stream has no list of its batches: it is passed over once, and the place of
    each message is kept."""

    def __init__(self, stream: Any) -> None:
        """`stream` is a pyarrow.NativeFile."""
        self._stream = stream
        self._heads: list[_Range] = []
        """The schema, and the dictionaries that the batches behind them use."""
        self._batches: list[tuple[int, _Range]] = []
        """For each batch how many heads come before it, and where it is."""
        self.schema = ipc.read_schema(ipc.read_message(stream))
        self._heads.append(_Range(0, stream.tell()))
        rows: list[int] = []
        self.problem = ""
        try:
            while True:
                rows += self._next()
        except EOFError:
            is_ended = stream.tell() > max(self._heads[-1].end, *self._ends())
            self.problem = "" if is_ended else "cut short"
        except (ArrowException, OSError):
            self.problem = "cut short"
        self.starts = [0, *itertools.accumulate(rows)]

    def column(self, group: int, name: str) -> Any:
        """See RowGroups.column."""
        return self._read(group).column(name)

    def _next(self) -> list[int]:
        """Passes over one message; gives the rows of a batch. Raises EOFError at the end."""
        start = max(self._heads[-1].end, *self._ends())
        self._stream.seek(start)
        kind = ipc.read_message(self._stream).type
        place = _Range(start, self._stream.tell())
        if kind == "dictionary":
            self._heads.append(place)
            return []
        self._batches.append((len(self._heads), place))
        return [self._read(len(self._batches) - 1).num_rows]

    def _ends(self) -> tuple[int, ...]:
        return (self._batches[-1][1].end,) if self._batches else (0,)

    def _read(self, group: int) -> Any:
        heads, place = self._batches[group]
        if heads == 1:  # no dictionary: the batch is used where it lies
            self._stream.seek(place.start)
            return ipc.read_record_batch(ipc.read_message(self._stream), self.schema)
        parts = []
        for start, end in (*self._heads[:heads], place):
            self._stream.seek(start)
            parts.append(self._stream.read(end - start))
        return ipc.open_stream(io.BytesIO(b"".join(parts))).read_next_batch()
