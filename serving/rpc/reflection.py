"""gRPC server reflection: a tool asks a server for its services and messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection


class MethodPool:
    """The descriptors of all generated code. It also finds the file of a method, which tools such
    as ghz ask for, and which the library's own pool does not know by name."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  # the library's name
        """The file of a service, message, field or method. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


def enable_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Answers reflection about these services."""
    names = (*services, reflection.SERVICE_NAME)
    pool: Any = MethodPool()  # the library calls the methods of a pool, of whatever class
    reflection.enable_server_reflection(names, server, pool=pool)
