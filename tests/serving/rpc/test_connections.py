"""F-09: connections that do nothing, or say hello too slowly."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.serving.support.running_server import PNG, embed_request, eventually, serving, unharmed

CONNECTIONS = 1_000


@contextlib.contextmanager
def open_files(count: int) -> Iterator[None]:
    """Lets this process open `count` files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:  # a hard limit below it fails the test, which then cannot be done here
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def closed(connection: socket.socket) -> bool:
    """Whether the server has hung up."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def test_f09_idle_and_slow_connections_do_not_disturb(tiny_bundle: Path) -> None:
    limits = {"connection_idle_s": 4.0, "handshake_s": 5.0}
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
    # Both ends of every connection are in this process.
    with open_files(2 * CONNECTIONS + 500), contextlib.ExitStack() as stack:
        async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
            host, port = running.server.address.rsplit(":", 1)
            left: list[socket.socket] = []
            for i in range(CONNECTIONS):
                connection = socket.create_connection((host, int(port)), timeout=5)
                left.append(stack.enter_context(connection))
                # Half are idle after their hello, half send a part of one and stop.
                connection.sendall(hello if i % 2 else hello[: i % 20])
                if i % 100 == 99:
                    reply = await running.stub.Embed(embed_request(PNG), timeout=5)
                    assert reply.results[0].status.code == 0

            def hung_up() -> bool:
                left[:] = [connection for connection in left if not closed(connection)]
                return not left

            for _ in range(10):
                reply = await running.stub.Embed(embed_request(PNG), timeout=5)
                assert reply.results[0].status.code == 0
            hung_up()
            assert len(left) > CONNECTIONS / 2, "the callers above were not beside idle ones"
            assert await eventually(hung_up, seconds=20), f"{len(left)} are still open"
