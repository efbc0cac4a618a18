"""What the server and a decoding process say to each other, beside the shared memory.

A request holds, for each image, its framing and its length in bytes. The reply holds, for each
image, what its pixels cover, or the message of its error. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bundle.manifest import Framing
from bundle.preprocessor import ImageCoverage

FRAMINGS: tuple[Framing | None, ...] = (None, "crop", "pad")
"""A framing goes over the wire as its place here; None is the model's own, or squashing."""

READY = b"ready"
"""The first thing that a process says."""

MAX_MESSAGE_BYTES = 65_536
"""More than a request or a reply takes."""

_REQUEST = struct.Struct("<BI")
"""Framing, length."""
_REPLY = struct.Struct("<HBiId")
"""Bytes of the error message that follows (0: none), framing, ground (-1: none), frames, share."""


class RequestedImage(NamedTuple):
    """An image of a request."""

    framing: Framing | None
    length: int
    """Bytes of the encoded image."""


def pack_request(images: Iterable[RequestedImage]) -> bytes:
    """A request."""
    return b"".join(_REQUEST.pack(FRAMINGS.index(i.framing), i.length) for i in images)


def unpack_request(message: bytes) -> list[RequestedImage]:
    """The images of a request."""
    return [RequestedImage(FRAMINGS[place], size) for place, size in _REQUEST.iter_unpack(message)]


def pack_reply(images: Sequence[ImageCoverage | str]) -> bytes:
    """The reply to a request: coverages, and messages of errors."""
    parts = []
    for image in images:
        if isinstance(image, str):
            error = image.encode()
            parts += [_REPLY.pack(len(error), 0, 0, 0, 0.0), error]
        else:
            ground = -1 if image.ground is None else image.ground
            place = FRAMINGS.index(image.framing)
            parts.append(_REPLY.pack(0, place, ground, image.frames, image.image_share))
    return b"".join(parts)


def unpack_reply(message: bytes) -> list[ImageCoverage | str]:
    """What `pack_reply` was given."""
    images: list[ImageCoverage | str] = []
    start = 0
    while start < len(message):
        error_bytes, place, ground, frames, share = _REPLY.unpack_from(message, start)
        start += _REPLY.size
        if error_bytes:
            images.append(message[start : start + error_bytes].decode())
            start += error_bytes
        else:
            images.append(
                ImageCoverage(
                    framing=FRAMINGS[place],
                    image_share=share,
                    ground=None if ground < 0 else ground,
                    frames=frames,
                )
            )
    return images
