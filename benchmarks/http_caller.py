"""Calls `/v1/embed` over HTTP, with as little of the caller's own time as it takes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.base import RefusedError

_JSON = b"content-type: application/json\r\n"
_LENGTH = b"content-length:"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpCaller:
    """A client of HTTP/1.1 that keeps its connections. A library would take more of the cores that
    the server needs."""

    def __init__(self, address: str, is_sparse: bool) -> None:
        """`address` is `http://host:port`."""
        self._host, _, port = address.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._outputs = {"sparse": is_sparse, "dense": not is_sparse}
        self._idle: list[Connection] = []

    def message(self, images: Sequence[bytes]) -> bytes:
        """See EmbeddingCaller.message."""
        inputs = [{"image": base64.b64encode(data).decode()} for data in images]
        body = json.dumps({"inputs": inputs, "outputs": self._outputs}).encode()
        head = f"POST /v1/embed HTTP/1.1\r\nhost: {self._host}\r\n".encode()
        return head + _JSON + _LENGTH + str(len(body)).encode() + b"\r\n\r\n" + body

    async def send(self, message: bytes) -> bytes:
        """See EmbeddingCaller.send."""
        reader, writer = await self._connection()
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = (line for line in head.split(b"\r\n") if line.lower().startswith(_LENGTH))
        body = await reader.readexactly(int(length[len(_LENGTH) :]))
        self._idle.append((reader, writer))
        status = int(head.split(b" ", 2)[1])
        if status == 429:
            raise RefusedError
        if status != 200:
            raise RuntimeError(f"{status}: {body[:500]!r}")
        for result in json.loads(body)["results"]:
            if (failed := result.get("status", {})).get("code"):
                raise RuntimeError(str(failed))
        return body

    def vectors(self, reply: bytes) -> NDArray[np.float32]:
        """See EmbeddingCaller.vectors."""
        rows = [result["dense"] for result in json.loads(reply)["results"]]
        return np.array(rows, dtype=np.float32)

    async def close(self) -> None:
        """Closes the connections."""
        for _, writer in self._idle:
            writer.close()

    async def _connection(self) -> Connection:
        if self._idle:
            return self._idle.pop()
        return await asyncio.open_connection(self._host, self._port, limit=2**24)
