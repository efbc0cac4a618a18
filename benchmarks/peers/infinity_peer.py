"""infinity-emb: CLIP over HTTP, with torch and dynamic batching.

It needs an environment of its own, whose libraries are older than ours:

    python -m venv ENV
    ENV/bin/pip install torch==2.13.0 'infinity-emb[torch,server]==0.0.78' aiohttp
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import aiohttp
import numpy as np
from numpy.typing import NDArray

from benchmarks.clip_models import ClipModel
from benchmarks.peers.base import (
    EmbeddingCaller,
    PeerServer,
    RefusedError,
    free_port,
    process_until,
)

NAME = "clip"
SETTINGS = ("--engine", "torch", "--device", "cpu", "--dtype", "float32", "--batch-size", "32")
"""Its defaults, but for the device and the type, which it would choose itself."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}


class InfinityCaller:
    """Calls POST /embeddings with images in base64."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._url = f"http://{address}/embeddings"

    def message(self, images: Sequence[bytes]) -> bytes:
        """See EmbeddingCaller.message."""
        inputs = [f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in images]
        return json.dumps({"model": NAME, "modality": "image", "input": inputs}).encode()

    async def send(self, message: bytes) -> bytes:
        """See EmbeddingCaller.send."""
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=message, headers=headers) as reply:
            body = await reply.read()
            if reply.status == 429:
                raise RefusedError
            if reply.status != 200:
                raise RuntimeError(f"infinity: {reply.status} {body[:200]!r}")
            return body

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        """See EmbeddingCaller.vectors."""
        return np.array([row["embedding"] for row in json.loads(reply)["data"]], dtype=np.float32)


@contextlib.contextmanager
def infinity(model: ClipModel, program: str) -> Iterator[PeerServer]:
    """Serves the folder of Hugging Face; `program` is the command infinity_emb."""
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    command = [program, "v2", "--model-id", str(model.folder), "--served-model-name", NAME]
    command += [*SETTINGS, "--host", host, "--port", port, "--log-level", "error"]

    @contextlib.asynccontextmanager
    async def calling() -> AsyncIterator[EmbeddingCaller]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield InfinityCaller(session, address)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    environment = {**os.environ, **OFFLINE}
    environment.pop("PYTHONPATH", None)  # it would find our libraries, which are newer
    with process_until(command, ready, environment) as process:
        described = f"infinity-emb {version_beside(program, 'infinity_emb')} {' '.join(SETTINGS)}"
        yield PeerServer(description=described, process=process, calling=calling)


def version_beside(program: str, distribution: str) -> str:
    """The version of a distribution in the environment of a command."""
    python = Path(program).parent / "python"
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
