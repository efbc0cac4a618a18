"""F-09: connections that do nothing, or say hello too slowly."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.serving.harness import (
    PNG,
    embed_request,
    eventually,
    serving,
    unharmed,
)


async def test_f09_idle_and_slow_connections_do_not_disturb(tiny_bundle: Path) -> None:
    limits = {"connection_idle_s": 0.5, "handshake_s": 1.0}
    async with serving(tiny_bundle, limits=limits) as running:
        host, port = running.server.address.rsplit(":", 1)
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
        sockets = []
        async with unharmed(running):
            for i in range(300):
                sockets.append(socket.create_connection((host, int(port)), timeout=5))
                sockets[-1].sendall(hello if i % 2 else hello[: i % 20])
            for _ in range(5):
                reply = await running.stub.Embed(embed_request(PNG), timeout=10)
                assert reply.results[0].status.code == 0

            def closed(connection: socket.socket) -> bool:
                connection.setblocking(False)
                try:
                    while connection.recv(4096):
                        pass
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return True

            assert await eventually(lambda: all(closed(s) for s in sockets), seconds=20)
        for connection in sockets:
            connection.close()
