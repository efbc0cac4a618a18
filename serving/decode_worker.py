"""A process that decodes pictures. Started by serving.decode_process; never imported by the server.

It talks over one socket and one piece of shared memory. A request is the length of the encoded
picture at the start of the memory; the reply is `K` with the pixels behind it, or `E` and a text.
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

LENGTH = struct.Struct("<Q")


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
    size = preprocess.preprocessing.size
    connection = socket.socket(fileno=given["socket"])
    memory = mmap.mmap(given["memory"], given["bytes"])
    os.close(given["memory"])
    pixels = np.frombuffer(memory, np.float32, 3 * size * size, limits.bytes)
    pixels = pixels.reshape(3, size, size)
    connection.send(b"K")
    while request := connection.recv(LENGTH.size):
        (length,) = LENGTH.unpack(request)
        try:
            pixels[:] = preprocess(decode_image(memory[:length], limits))
            reply = b"K"
        except ImageError as error:
            reply = b"E" + str(error).encode()
        connection.send(reply)


if __name__ == "__main__":
    main(sys.argv[1])
