"""A port on which several processes listen; the system divides new connections among them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from serving.core.errors import StartupError


@contextlib.contextmanager
def shared_port(host: str, port: int, field: str = "port") -> Iterator[int]:
    """Reserves a port, on which processes then listen with SO_REUSEPORT; 0 takes a free one.

    Raises StartupError, which names the field, when another program has the port.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise StartupError("front_ends: this system cannot divide a port among processes")
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            # Without SO_REUSEPORT: with it, a port that other front ends share would seem free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            address = probe.getsockname()
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError:
        refusal = f"{field}: {host} port {port}: cannot listen there: is it in use?"
        raise StartupError(refusal) from None
    with held:  # bound, and never listening: it gets no connection
        yield int(held.getsockname()[1])
