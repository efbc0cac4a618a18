"""A process that the supervisor keeps alive."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from serving.core.child_process import python_module, python_path
from serving.core.errors import StartupError

log = logging.getLogger(__name__)

_PAUSES_S = (0.0, 0.1, 0.5, 1.0, 5.0)
"""Pauses before a process is started again; the last one is that of all later starts."""
_STEADY_S = 30.0
"""After so long a life of the process the pauses begin anew. One that ends sooner, again and again,
would take the cores from those that work."""
_LINE_BYTES = 2**16


class Child:
    """A process that says in a line of JSON on standard output that it is ready, and ends when its
    standard input does."""

    def __init__(self, name: str, module: str, settings: Mapping[str, Any]) -> None:
        """`settings` goes to `module`'s main as JSON."""
        self.name = name
        """What the log calls it."""
        self._module = module
        self.settings = settings
        """What the next process gets."""
        self._process: asyncio.subprocess.Process | None = None
        self._ended = False
        """The supervisor has told it to end."""

    async def start(self) -> dict[str, str]:
        """Starts the process, and gives what it says when it is ready. Raises StartupError."""
        self._process = process = await asyncio.create_subprocess_exec(
            *python_module(self._module, self.settings),
            stdin=asyncio.subprocess.PIPE,  # its end tells the process to end
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": python_path()},
            limit=_LINE_BYTES,
            start_new_session=True,  # Ctrl-C is for the supervisor
        )
        assert process.stdout is not None
        try:
            line = await process.stdout.readline()
            said: dict[str, str] = json.loads(line) if line else {}
        except ValueError:  # too long, or no JSON
            process.kill()
            said = {}
        if self._ended:  # told so while the process was being started
            self.end()
        if not said or "error" in said:
            code = await process.wait()
            raise StartupError(
                said.get("error") or f"{self.name}: its process ended with status {code}"
            )
        return said

    async def keep(self) -> None:
        """Starts the process again whenever it ends, until the supervisor ends it."""
        loop = asyncio.get_running_loop()
        ready, pauses = loop.time(), _pauses()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            if self._ended:
                return
            log.error("%s: its process ended with status %d", self.name, code)
            if loop.time() - ready >= _STEADY_S:
                pauses = _pauses()
            for pause in pauses:
                await asyncio.sleep(pause)
                if self._ended:
                    return
                begun = loop.time()
                try:
                    await self.start()
                except (StartupError, OSError) as error:
                    reason = str(error).removeprefix(f"{self.name}: ")
                    log.error("%s: does not start: %s", self.name, reason)
                    continue
                ready = loop.time()
                log.warning("%s: is there again after %.1f s", self.name, ready - begun)
                break

    def end(self) -> None:
        """Tells the process to end."""
        self._ended = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def wait(self) -> int:
        """Waits for the end of the process; its exit status."""
        return 0 if self._process is None else await self._process.wait()

    def kill(self) -> None:
        """Ends the process at once."""
        self._ended = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def _pauses() -> Iterator[float]:
    return itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1]))
