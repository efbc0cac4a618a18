"""A bundle's graphs tried in a process of their own before a server that answers loads them.

A graph is a program: building its session and running it may take any time and any memory, and in
a thread neither can be ended. The process is killed when the caller leaves, and its memory is
bounded by the size of the graphs. The server loads what passed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import sys
import threading
from pathlib import Path

from bundle.manifest import Manifest
from bundle.schema import from_dict
from bundle.store import Bundle, BundleError
from serving.core.child_process import python_module, python_path
from serving.core.config import BatchConfig
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import EngineConfig, EngineError
from serving.models.sample_inputs import run_samples

_BASE_BYTES = 2 * 2**30
"""Memory for the libraries, and for the activations of a small model."""

_BYTES_PER_GRAPH_BYTE = 8
"""Memory for weights, their copies while a session is built, and the activations of a batch."""

_MAX_MESSAGE = 2000
"""Characters of the process's last line that go into the server's log."""


async def try_graphs(bundle: Bundle, engine: EngineConfig, batch: BatchConfig) -> None:
    """Loads and runs the graphs in another process.

    Cancelling it kills the process. Raises EngineError when they cannot be loaded or run.
    """
    settings = {
        "bundle": str(bundle.root),
        "engine": dataclasses.asdict(engine),
        "batch": dataclasses.asdict(batch),
        "memory": _memory_limit(bundle, engine),
    }
    process = await asyncio.create_subprocess_exec(
        *python_module("serving.models.load_trial", settings),
        stdin=asyncio.subprocess.PIPE,  # its end tells the process that this one is gone
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": python_path()},
        start_new_session=True,  # Ctrl-C is for the server
    )
    assert process.stderr is not None
    try:
        output = await process.stderr.read()
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if code != 0:
        lines = output.decode(errors="replace").split("\n")
        reason = next((line for line in reversed(lines) if line.strip()), "")[:_MAX_MESSAGE]
        raise EngineError(reason or f"its graphs ended a process with status {code}")


def _memory_limit(bundle: Bundle, engine: EngineConfig) -> int:
    """Bytes of data that the process may have; 0 for no limit, since CUDA reserves addresses."""
    if engine.device != "cpu":
        return 0
    size = sum(bundle.manifest.files[f"{graph}.onnx"].bytes for graph in bundle.graphs)
    return _BASE_BYTES + _BYTES_PER_GRAPH_BYTE * size


def main(settings: str) -> int:
    """The process. Its last line on stderr says what failed."""
    given = json.loads(settings)
    if given["memory"]:
        resource.setrlimit(resource.RLIMIT_DATA, (given["memory"], given["memory"]))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    root = Path(given["bundle"])
    engine_config = from_dict(EngineConfig, given["engine"], at="engine")
    batch = from_dict(BatchConfig, given["batch"], at="batch")
    try:
        # The server has verified every file, and checks at the end that none of them has changed.
        manifest = Manifest.from_json((root / "manifest.json").read_text(encoding="utf-8"))
        bundle = Bundle(root=root, manifest=manifest, stamps={})
        run_samples(bundle, open_engine(bundle, engine_config), batch)
    except (BundleError, EngineError, MemoryError) as error:
        print(" ".join(str(error).split()) or "not enough memory", file=sys.stderr)
        return 1
    return 0


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    # Not sys.exit: onnxruntime's threads need not be waited for.
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)
