"""How many connections the HTTP port has, and which of them gives way to a new one."""

from __future__ import annotations

import asyncio
from typing import Protocol


class OpenConnection(Protocol):
    """One connection."""

    @property
    def waits(self) -> bool:
        """Whether the server waits for its caller to ask something, or to finish asking."""

    @property
    def transport(self) -> asyncio.Transport:
        """Its transport."""


class OpenConnections:
    """Bounds the connections. Each takes one of the process's files, without which the server can
    neither accept calls over gRPC nor read an image.

    A new connection takes the place of the one that has waited longest, so that callers who connect
    and say nothing do not keep others out. Where every connection has a call in flight, it is the
    new one that is closed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # In the order in which they last began to wait, which dictionaries keep.
        self._open: dict[OpenConnection, None] = {}

    def add(self, connection: OpenConnection) -> None:
        """A connection was made."""
        if len(self._open) >= self._most:
            oldest = next((one for one in self._open if one.waits), connection)
            self._open.pop(oldest, None)
            oldest.transport.abort()
            if oldest is connection:
                return
        self._open[connection] = None

    def touch(self, connection: OpenConnection) -> None:
        """A connection begins to wait again."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def remove(self, connection: OpenConnection) -> None:
        """A connection has ended."""
        self._open.pop(connection, None)
