"""A server inside this process, for commands that are given a bundle in place of a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from bundle.atomic import work_directory
from serving.core.config import ServerConfig
from serving.engines.base import REFERENCE
from serving.server import running

abandoned = False
"""A signal came while a server was loading. Its threads cannot be ended, only the process."""


@contextmanager
def local_server(bundle_path: Path, *, chat: bool = True) -> Iterator[str]:
    """Serves a bundle to this process alone, and gives the address for a client.

    This is the real server, on a unix domain socket in a private directory, so a command does the
    same with a bundle as with a server. With `chat` false the language model is not loaded, which
    would take seconds. Raises StartupError.
    """
    global abandoned
    with work_directory() as directory:
        config = ServerConfig(
            bundle=str(bundle_path),
            socket=str(directory / "s"),
            chat="auto" if chat else "off",
            engine=REFERENCE,  # `auto` may measure for minutes: too long for one command
        )
        started: Future[_RunningServer] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(_run(config, started)), name="server", daemon=True
        )
        thread.start()
        try:
            server = started.result()
        except (KeyboardInterrupt, SystemExit):
            abandoned = True
            raise
        try:
            yield server.address
        finally:
            server.loop.call_soon_threadsafe(server.stop.set)
            thread.join()


class _RunningServer:
    def __init__(self, address: str) -> None:
        self.address = address
        self.loop = asyncio.get_running_loop()
        self.stop = asyncio.Event()


async def _run(config: ServerConfig, started: Future[_RunningServer]) -> None:
    try:
        async with running(config) as server:
            state = _RunningServer(server.address)
            started.set_result(state)
            await state.stop.wait()
    except BaseException as error:  # raised again by local_server
        if started.done():
            raise
        started.set_exception(error)
