"""One front end: a server without an engine of its own.

serving.front_ends.supervisor starts it, with settings as JSON. It writes one line of JSON to
standard output: that it admits calls, or why it cannot start. It drains when its standard input
ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bundle.schema import from_dict
from bundle.store import Bundle
from serving.core.child_process import answers_on_stdout
from serving.core.config import ServerConfig
from serving.core.errors import StartupError, one_line
from serving.engine_process.remote_engine import RemoteEngine
from serving.engines.base import EngineConfig
from serving.lifecycle import Foreground, run


class Supervised(Foreground):
    """A front end learns from its supervisor when to end, and reports to it."""

    def __init__(self, answer: Callable[[dict[str, str]], None]) -> None:
        """`answer` sends a line to the supervisor."""
        super().__init__()
        self._answer = answer

    def on_stop(self, stop: Callable[[], None]) -> None:
        """See Foreground. The end of standard input counts; signals are left to the supervisor."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        loop = asyncio.get_running_loop()

        def on_input() -> None:
            if not os.read(sys.stdin.fileno(), 1):
                loop.remove_reader(sys.stdin)
                stop()

        loop.add_reader(sys.stdin, on_input)

    def serving(self, address: str, http_address: str | None) -> None:
        """See Foreground."""
        self._answer({"address": address, "http_address": http_address or ""})

    def say(self, line: str) -> None:
        """Says nothing: the supervisor speaks for all front ends."""


def main(settings: str) -> int:
    """Serves until standard input ends; `settings` is JSON of `config` and `socket`."""
    answer = answers_on_stdout()
    given = json.loads(settings)
    config: ServerConfig = from_dict(ServerConfig, given["config"], at="")

    def engine(bundle: Bundle, config: EngineConfig, cores: int = 0) -> RemoteEngine:
        return RemoteEngine(Path(given["socket"]), bundle.manifest.digest)

    try:
        run(config, engine, Supervised(answer))
    except StartupError as error:
        answer({"error": one_line(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
