"""A server that says, for each line on its standard input, what its threads have used.

benchmarks.front_end runs this file as a program, with the import path of the checkout to measure.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path

from serving.core.config import BatchConfig, ServerConfig
from serving.core.limits import LimitsConfig
from serving.core.memory import prepare_memory
from serving.server import running


def used_s() -> dict[str, float]:
    """CPU seconds of this process by group of threads, and of its children.

    `loop` is the event loop's thread. `engine` and other threads of Python go by their name. All
    that Python did not start are gRPC's, or the engine's where it runs on several threads.
    """
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    names[threading.main_thread().native_id] = "loop"
    seconds: dict[str, float] = {}
    for task in Path("/proc/self/task").iterdir():
        name = names.get(int(task.name), "native")
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        seconds[name] = seconds.get(name, 0.0) + nanoseconds / 1e9
    seconds["decoders"] = _children_s()
    return seconds


def _children_s() -> float:
    total = 0.0
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
    return total


async def main(bundle: str, batch: int) -> None:
    """Serves until standard input ends. The first line that is printed is the address."""
    config = ServerConfig(
        bundle=bundle,
        port=0,
        chat="off",
        batch=BatchConfig(max_images=batch),
        limits=LimitsConfig(queue_s=60.0),  # no call is refused, whatever else runs
    )
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def on_line() -> None:
        if sys.stdin.readline():
            print(json.dumps(used_s()), flush=True)
        else:
            loop.remove_reader(sys.stdin)
            ended.set()

    async with running(config) as server:
        loop.add_reader(sys.stdin, on_line)
        print(server.address, flush=True)
        await ended.wait()


if __name__ == "__main__":
    prepare_memory()
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
