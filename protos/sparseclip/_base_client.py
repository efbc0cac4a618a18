# Written by protos/generate_sync.py from _base_client_aio.py: edit that file.
"""What the clients of both ports share: opening, closing and health, for threads."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sparseclip import _admin
from sparseclip._connection import Connection, Tls
from sparseclip._retry import RetryPolicy
from sparseclip._transport import Transport
from sparseclip.server_status import Health


class BaseClient:
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
        self._transport = Transport(connection, timeout, retry or RetryPolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Calls in flight are cancelled."""
        self._transport.close()

    def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """The health of one service, such as `sparseclip.v1.EmbeddingService`, or of the server.

        Raises CallError with NOT_FOUND for a service that the server does not have.
        """
        return self._transport.run(_admin.check_health(service), timeout)
