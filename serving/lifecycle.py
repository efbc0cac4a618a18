"""A server as a process: it starts, runs until it is told to end, and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack

from serving.core.config import ServerConfig
from serving.core.errors import StartupError, one_line
from serving.core.memory import prepare_memory
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import EngineFactory
from serving.server import running

_CANCEL_S = 1.0
"""Time for a load to end by itself after a signal."""

_CLOSE_S = 3.0
"""Time to free everything after a drain. Only a load that began before may take longer."""


class Foreground:
    """Tells a server that a person started when to end, by signals, and reports on stderr."""

    def __init__(self, abort: Callable[[], None] = lambda: None) -> None:
        """`abort` is called just before the process ends without draining."""
        self._abort = abort

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Calls `stop` in the event loop at the first signal. A second one ends the process at
        once."""
        loop = asyncio.get_running_loop()
        stopped = False

        def on_signal() -> None:
            nonlocal stopped
            if stopped:
                self._abort()
                os._exit(1)
            stopped = True
            stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)

    def serving(self, address: str, http_address: str | None) -> None:
        """The server admits calls; `http_address` is where a browser finds it."""
        self.say(f"serving on {address}" + (f" and {http_address}" if http_address else ""))

    def say(self, line: str) -> None:
        """Shows what happens to the server."""
        print(f"sparseclip: {line}", file=sys.stderr, flush=True)


def run(
    config: ServerConfig,
    engine_factory: EngineFactory = open_engine,
    surroundings: Foreground | None = None,
) -> None:
    """Runs a server until `surroundings` tells it to end, then drains it.

    Without `surroundings` it ends by signals; see Foreground. Raises StartupError, whose message is
    one line.
    """
    prepare_memory()
    overdue = threading.Timer(_CLOSE_S, _end_overdue)
    overdue.daemon = True
    try:
        asyncio.run(_serve(config, engine_factory, surroundings or Foreground(), overdue.start))
    finally:
        overdue.cancel()


def serve(config: ServerConfig) -> int:
    """Runs as `run` does, and returns the exit status.

    It is 1, after one line on stderr, when the server cannot start.
    """
    try:
        run(config)
    except StartupError as error:
        print(f"sparseclip serve: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


async def _serve(
    config: ServerConfig,
    engine_factory: EngineFactory,
    surroundings: Foreground,
    on_drained: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    surroundings.on_stop(stop.set)
    async with AsyncExitStack() as stack:
        starting = loop.create_task(stack.enter_async_context(running(config, engine_factory)))
        stopping = loop.create_task(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # it shall end while the model is loading
            starting.cancel()
            await asyncio.wait((starting,), timeout=_CANCEL_S)
            if starting.done():
                return
            # A thread that reads the bundle cannot be ended, and may take minutes.
            surroundings.say("stopped while loading")
            os._exit(0)
        server = starting.result()
        surroundings.serving(server.address, server.http_address)
        for what, address in (("admin", server.admin_address), ("metrics", server.metrics_address)):
            if address is not None:
                surroundings.say(f"{what} on {address}")
        await stopping
        surroundings.say("draining")
        await server.drain()
        on_drained()


def _end_overdue() -> None:
    """Ends this process although a thread is at work, such as one that loads a model. A thread
    cannot be ended, and may take minutes."""
    print("sparseclip: stopped, though a thread was still at work", file=sys.stderr, flush=True)
    os._exit(0)
