"""A process that decodes images. serving.image_decoding.process starts it; no server imports it.

It shares one socket and one piece of memory with the server. S image side, n slots:

    memory    | encoded images, one after another | pixels of slot 0 | slot 1 | ... | slot n-1 |
    offset    0                                   n * limits.bytes   + 4 * 3 * S * S for each slot

messages.py has the layout of what is said on the socket. Image i of a request starts where image
i-1 ends, and its pixels go to slot i. The server sends the next request only after the reply, so
both sides never use the memory at the same time.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageError, ImageLimits
from bundle.manifest import Framing, Preprocessing
from bundle.preprocessor import ImageCoverage, Preprocessor
from bundle.schema import from_dict
from serving.core.jpeg_decoder import JpegDecoder
from serving.image_decoding.messages import (
    MAX_MESSAGE_BYTES,
    READY,
    pack_reply,
    unpack_request,
)

DecodeJpegs = Callable[[Sequence[bytes]], list[NDArray[np.uint8] | None]]
"""Pixels (H, W, 3) of each image that was decoded; None for those that are left to Pillow."""

NICE = 5
"""Added to the niceness of a worker: on a full machine the event loop of the server, which answers
health checks and refuses what is too much, must not wait for a worker's time slice to end."""


def main(settings: str) -> None:
    """Serves until the other end of the socket closes; `settings` is JSON from DecodeProcess."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may close at any time
        _serve(settings)


def _serve(settings: str) -> None:
    # Ctrl-C and a service manager's SIGTERM reach the process group. The server drains its calls,
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
    try:
        jpegs = _jpeg_decoder(given["decoder"], limits)
    except (ImportError, RuntimeError) as error:  # nvImageCodec's, where there is no GPU
        print(f"decoder: {given['decoder']}: {error}", file=sys.stderr)
        sys.exit(1)
    connection.send(READY)
    while request := connection.recv(MAX_MESSAGE_BYTES):
        start = 0
        images: list[tuple[bytes, Framing | None]] = []
        for image in unpack_request(request):
            images.append((memory[start : start + image.length], image.framing))
            start += image.length
        decoded = jpegs([data for data, _ in images])
        replies: list[ImageCoverage | str] = []
        for slot, (data, framing) in enumerate(images):
            try:
                image_pixels = preprocess.decode(
                    data, limits, framing, out=pixels[slot], pixels=decoded[slot]
                )
                replies.append(image_pixels.coverage)
            except ImageError as error:
                replies.append(str(error))
        connection.send(pack_reply(replies))


def _jpeg_decoder(name: JpegDecoder, limits: ImageLimits) -> DecodeJpegs:
    """What decodes the plain JPEGs among images beforehand. Raises ImportError and RuntimeError."""
    if name == "pillow":
        return lambda images: [None] * len(images)
    from serving.image_decoding.nvimgcodec_decoder import CPU, NvImageCodecDecoder

    decoder = NvImageCodecDecoder(limits, CPU if name == "nvimgcodec_cpu" else 0)
    _silence_libraries()
    return decoder.decode


def _silence_libraries() -> None:
    """Ends what libraries in C write on standard error: those of nvImageCodec write a line about
    most JPEGs, so that callers could fill the log. What Python writes there stays."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    main(sys.argv[1])
