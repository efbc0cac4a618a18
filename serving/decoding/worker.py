"""A process that decodes images. serving.decoding.process starts it; no server imports it.

It talks over one socket and one piece of shared memory. A request says how many encoded images
are at the start of the memory, one behind the other, and how long each is; the pixels of the first
go to the first slot behind them, and so on, and the reply is a JSON list with null for each
image, or the text of its error.
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

from bundle.image import ImageError, ImageLimits, Preprocessor, decode_image
from bundle.manifest import Preprocessing
from bundle.schema import from_dict


def request_of(slots: int) -> struct.Struct:
    """The layout of a request: a count, and so many lengths, of which the first ones count."""
    return struct.Struct(f"<{1 + slots}Q")


def main(settings: str) -> None:
    """Serves until the other end of the socket closes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may close at any time
        _serve(settings)


def _serve(settings: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the server drains first, then hangs up
        signal.signal(number, signal.SIG_IGN)
    given = json.loads(settings)
    limits = ImageLimits(**given["limits"])
    preprocess = Preprocessor(from_dict(Preprocessing, given["preprocessing"], at=""))
    size, slots = preprocess.preprocessing.size, given["slots"]
    connection = socket.socket(fileno=given["socket"])
    memory = mmap.mmap(given["memory"], given["bytes"])
    os.close(given["memory"])
    pixels = np.frombuffer(memory, np.float32, slots * 3 * size * size, slots * limits.bytes)
    pixels = pixels.reshape(slots, 3, size, size)
    layout = request_of(slots)
    connection.send(b"[]")
    while request := connection.recv(layout.size):
        count, *lengths = layout.unpack(request)
        start = 0
        errors: list[str | None] = []
        for slot, length in enumerate(lengths[:count]):
            try:
                pixels[slot] = preprocess(decode_image(memory[start : start + length], limits))
                errors.append(None)
            except ImageError as error:
                errors.append(str(error))
            start += length
        connection.send(json.dumps(errors).encode())


if __name__ == "__main__":
    main(sys.argv[1])
