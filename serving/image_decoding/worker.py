"""A process that decodes images. serving.image_decoding.process starts it; no server imports it.

It shares one socket and one piece of memory with the server. S image side, n slots:

    memory    | encoded images, one after another | pixels of slot 0 | slot 1 | ... | slot n-1 |
    offset    0                                   n * limits.bytes   + 4 * 3 * S * S for each slot

A request on the socket holds a count, a framing as its place in FRAMINGS, and n lengths, of which
the first `count` are used. Image i starts where image i-1 ends, and its pixels go to slot i. The
reply is a JSON list with an entry for each image: the fields of its ImageCoverage as an object, or
the message of its error. The server sends the next request only after the
reply, so both sides never use the memory at the same time. The first reply, an empty list, says
that the worker is ready.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import struct
import sys

import numpy as np

from bundle.image import ImageError, ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import Preprocessor
from bundle.schema import from_dict

FRAMINGS: tuple[Framing | None, ...] = (None, "crop", "pad")
"""What a request's framing may be; None is the model's own."""


NICE = 5
"""Added to the niceness of a worker: on a full machine the event loop of the server, which answers
health checks and refuses what is too much, must not wait for a worker's time slice to end."""


def request_struct(slots: int) -> struct.Struct:
    """The layout of a request: count, framing, `slots` lengths, 64 bits each, little-endian."""
    return struct.Struct(f"<{2 + slots}Q")


def main(settings: str) -> None:
    """Serves until the other end of the socket closes; `settings` is JSON from DecodeProcess."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may close at any time
        _serve(settings)


def _serve(settings: str) -> None:
    # Ctrl-C and a supervisor's SIGTERM reach the whole process group. The server drains its calls,
    # for which it needs its workers, and then closes the socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    given = json.loads(settings)
    limits = ImageLimits(**given["limits"])
    preprocess = Preprocessor(from_dict(Preprocessing, given["preprocessing"], at=""))
    size, slots = preprocess.preprocessing.size, given["slots"]
    connection = socket.socket(fileno=given["socket"])
    memory = mmap.mmap(given["memory"], given["bytes"])
    os.close(given["memory"])
    pixels = np.frombuffer(memory, np.float32, slots * 3 * size * size, slots * limits.bytes)
    pixels = pixels.reshape(slots, 3, size, size)
    layout = request_struct(slots)
    connection.send(b"[]")
    while request := connection.recv(layout.size):
        count, framing, *lengths = layout.unpack(request)
        start = 0
        replies: list[dict[str, object] | str] = []
        for slot, length in enumerate(lengths[:count]):
            try:
                data = memory[start : start + length]
                decoded = preprocess.decode(data, limits, FRAMINGS[framing], out=pixels[slot])
                replies.append(vars(decoded.coverage))
            except ImageError as error:
                replies.append(str(error))
            start += length
        connection.send(json.dumps(replies).encode())


if __name__ == "__main__":
    main(sys.argv[1])
