"""Starts the engine's process and the front ends, keeps them alive, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle.atomic import work_directory
from serving.core.config import ServerConfig
from serving.core.errors import StartupError, one_line
from serving.engines.base import available_cores
from serving.front_ends.child import Child
from serving.front_ends.shared_port import shared_port
from serving.lifecycle import Foreground

log = logging.getLogger(__name__)

_END_S = 10.0
"""Time for processes to end beyond that of their drain."""

_DECODE_WORKERS = 4
"""By default the decode workers of a front end, at most; no more than its share of the cores."""


def serve_front_ends(config: ServerConfig) -> int:
    """Serves `config.front_ends` front ends until SIGTERM or SIGINT, and returns the exit status.

    A second signal ends everything at once. The status is 1, after one line on stderr, when they
    cannot start.
    """
    supervisor = Supervisor(config)
    try:
        asyncio.run(supervisor.run(Foreground(supervisor.kill)))
    except StartupError as error:
        print(f"sparseclip serve: {one_line(error)}", file=sys.stderr)
        return 1
    return 0


class Supervisor:
    """The process that started the others. It takes no calls itself.

    The engine's process begins first, because front ends ask it. When it ends, items fail as
    UNAVAILABLE until another one has loaded the model; health says NOT_SERVING once a front end's
    probe has failed. When a front end ends, its connections break, and callers connect to others.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._children: list[Child] = []

    async def run(self, foreground: Foreground) -> None:
        """Runs until `foreground` tells it to end, then drains. Raises StartupError."""
        stop = asyncio.Event()
        foreground.on_stop(stop.set)
        config, keeping = self._config, list[asyncio.Task[None]]()
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(work_directory())
            port = stack.enter_context(shared_port(config.host, config.port))
            http_port = config.http_port
            if http_port is not None:
                shared = shared_port(config.host, http_port, "http_port")
                http_port = stack.enter_context(shared)
            starting = asyncio.ensure_future(self._start(folder / "engine", port, http_port))
            stopping = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    foreground.say("stopped while loading")
                    return
                foreground.serving(*starting.result())
                keeping += [asyncio.ensure_future(child.keep()) for child in self._children]
                await stopping
                foreground.say("draining")
                await self._drain()
            finally:
                self.kill()
                for task in (starting, stopping, *keeping):
                    task.cancel()
                await asyncio.gather(*(child.wait() for child in self._children))

    def kill(self) -> None:
        """Ends every process at once."""
        # The engine last: a front end would answer its calls with items that the engine has failed.
        for child in reversed(self._children):
            child.kill()

    async def _start(self, socket: Path, port: int, http_port: int | None) -> tuple[str, str]:
        """Starts the engine and then the front ends; the addresses on which they serve."""
        bundle = str(self._config.bundle_path)
        config = dataclasses.replace(self._config, port=port, http_port=http_port, bundle=bundle)
        engine = Child("engine", "serving.engine_process.engine_host", _settings(config, socket))
        self._children.append(engine)
        said = await engine.start()
        # The version that is opened now, whatever becomes current while a process is started again.
        config = dataclasses.replace(config, bundle=said["bundle"])
        engine.settings = _settings(config, socket)
        front_ends = [
            Child(
                f"front end {number}",
                "serving.front_ends.front_end",
                _settings(_front_end(config, number), socket),
            )
            for number in range(config.front_ends)
        ]
        self._children += front_ends
        answers = await asyncio.gather(*(child.start() for child in front_ends))
        return answers[0]["address"], answers[0]["http_address"]

    async def _drain(self) -> None:
        """Lets front ends end their calls, and then the engine."""
        engine, *front_ends = self._children
        await _end(front_ends, self._config.limits.drain_s + _END_S)
        await _end([engine], _END_S)


async def _end(children: Sequence[Child], seconds: float) -> None:
    """Tells processes to end, and waits for at most `seconds`."""
    for child in children:
        child.end()
    waits = {asyncio.ensure_future(child.wait()): child.name for child in children}
    _, pending = await asyncio.wait(waits, timeout=seconds)
    for name in sorted(waits[wait] for wait in pending):
        log.warning("%s: its process is cut off: it has not ended in time", name)


def _front_end(config: ServerConfig, number: int) -> ServerConfig:
    """The configuration of one front end."""
    metrics_port = config.metrics_port and config.metrics_port + number
    workers = max(1, min(_DECODE_WORKERS, available_cores() // config.front_ends))
    return dataclasses.replace(
        config, metrics_port=metrics_port, decode_workers=config.decode_workers or workers
    )


def _settings(config: ServerConfig, socket: Path) -> dict[str, Any]:
    return {"config": dataclasses.asdict(config), "socket": str(socket)}
