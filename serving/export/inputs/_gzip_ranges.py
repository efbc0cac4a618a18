"""Any bytes of what a gzip file holds, without reading it from its beginning."""

from __future__ import annotations

import bisect
import threading
import zlib
from typing import Any, NamedTuple

from serving.storage.location import Location

CHUNK_BYTES = 2**14
"""Compressed bytes that are read at once. Deflate makes at most 1,032 times as many of them."""
CHECKPOINT_BYTES = 2**24
"""Bytes between two places at which the state of the decompressor is kept, of about 50 KB."""
_GZIP = 31
"""The `wbits` of zlib for gzip."""


class _State(NamedTuple):
    """A decompressor, and where it stands."""

    position: int
    """Bytes that came out of it."""
    offset: int
    """Bytes of the file that went into it."""
    decompressor: Any


class GzipRanges:
    """One gzip file, for any thread. It reads forwards from the last place it knows before a
    range."""

    def __init__(self, file: Location) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._checkpoints = [_State(0, 0, zlib.decompressobj(_GZIP))]
        self._last: _State | None = None

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to `end`, or fewer where the file ends. Raises OSError or zlib.error
        for a damaged file."""
        with self._lock, self._file.open() as stream:
            position, offset, kept = self._nearest(start)
            decompressor = kept.copy()
            stream.seek(offset)
            parts: list[bytes] = []
            while position < end and (chunk := stream.read(CHUNK_BYTES)):
                offset += len(chunk)
                data = decompressor.decompress(chunk)
                while decompressor.eof and decompressor.unused_data:  # another gzip file follows
                    rest = decompressor.unused_data
                    decompressor = zlib.decompressobj(_GZIP)
                    data += decompressor.decompress(rest)
                if position + len(data) > start:
                    parts.append(data[max(0, start - position) : end - position])
                position += len(data)
                if position - self._checkpoints[-1].position >= CHECKPOINT_BYTES:
                    self._checkpoints.append(_State(position, offset, decompressor.copy()))
            self._last = _State(position, offset, decompressor)
            return b"".join(parts)

    def _nearest(self, start: int) -> _State:
        places = [state.position for state in self._checkpoints]
        nearest = self._checkpoints[bisect.bisect_right(places, start) - 1]
        last = self._last
        return last if last and nearest.position <= last.position <= start else nearest
