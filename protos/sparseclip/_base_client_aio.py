"""What the clients of both ports share: opening, closing and health, for asyncio."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sparseclip import _admin
from sparseclip._connection import Connection, Tls
from sparseclip._retry import RetryPolicy
from sparseclip._transport_aio import AsyncTransport
from sparseclip.server_status import Health


class AsyncBaseClient:
    """Opening, closing and health: the same on both ports."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        timeout: float = 10.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Opens a connection to `host:port` or `unix:PATH`. Nothing is sent yet.

        `timeout` is the deadline of each call in seconds, retries included. Raises ValueError for
        a malformed address, for a TLS file that cannot be read, and for a token that would go in
        plaintext to another machine, unless `insecure` allows it.
        """
        connection = Connection(address=address, token=token, tls=tls, insecure=insecure)
        self._transport = AsyncTransport(connection, timeout, retry or RetryPolicy())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Calls in flight are cancelled."""
        await self._transport.close()

    async def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """The health of one service, such as `sparseclip.v1.EmbeddingService`, or of the server.

        Raises CallError with NOT_FOUND for a service that the server does not have.
        """
        return await self._transport.run(_admin.check_health(service), timeout)
