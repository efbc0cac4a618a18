"""An image in any form that a Python program has it in, as the bytes of an image file.

Nothing is fetched, nothing but regular files is opened, and no more is read than the server takes.
Pillow is used for its own images alone and never imported for anything else: the base install has
none.
"""

from __future__ import annotations

import io
import os
import re
import stat
from os import PathLike
from typing import Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from sparseclip._image_pixels import ModelResize, encode_png, pil_file, pil_pixels, pillow
from sparseclip.errors import ItemError
from sparseclip.model_info import ModelInfo
from sparseclip.results import ImageFraming

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/", re.ASCII)
_CHUNK_BYTES = 1024 * 1024
_CHANNELS = (1, 3, 4)


class BinaryFile(Protocol):
    """A file opened in binary mode, such as io.BytesIO. It is read from its position on."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end of the file."""


class ImageObject(Protocol):
    """An image in memory that can save itself as PNG, such as a PIL image."""

    def save(self, fp: io.BytesIO, format: str) -> None:
        """Writes the image to `fp` in the named format."""


ImageInput = (
    str
    | PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryFile
    | ImageObject
    | NDArray[np.uint8]
)
"""An image: the path of an image file; its bytes as bytes, bytearray or memoryview; a file opened
in binary mode; a PIL image of any mode; or pixels as a numpy array of uint8, (height, width) grey
or (height, width, channels) with 1, 3 (RGB) or 4 (RGBA) channels."""


def is_missing(value: object) -> bool:
    """Whether this is the empty cell of a table: None, NaN or pandas.NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA is neither equal nor unequal to itself
        return True
    except Exception:  # an array; objects of others raise anything
        return False


def is_pixels(image: object) -> bool:
    """Whether this is an image in memory, of which no more is sent than the model reads."""
    module = pillow()
    return isinstance(image, np.ndarray) or (module is not None and isinstance(image, module.Image))


def is_address(text: str) -> bool:
    """The text is a URL of any scheme rather than a path."""
    return bool(_ADDRESS.match(text))


def read_image(image: object, info: ModelInfo, framing: ImageFraming | None = None) -> bytes:
    """The bytes of an image file, no more than the server takes.

    `info` has the server's limits, and what the model reads of an image. Pixels are sent as PNG,
    and no more of them than the model reads under the framing. Raises ItemError, whose message is
    one sentence, for whatever cannot be read.
    """
    limit = info.limits.image_bytes or 2**62
    try:
        data = _read(image, ModelResize.of(info, framing), limit)
    except ItemError:
        raise
    except Exception:  # decoders and file objects of others raise anything
        raise _refused("cannot be read") from None
    if not data:
        raise _refused("must not be empty")
    _check_size(len(data), limit)
    return data


def _read(image: object, resize: ModelResize, limit: int) -> bytes:
    if isinstance(image, str | PathLike):
        return _read_path(image, limit)
    if isinstance(image, bytes | bytearray | memoryview):
        _check_size(memoryview(image).nbytes, limit)
        return bytes(image)
    if isinstance(image, np.ndarray):
        return encode_png(resize.array(_array_pixels(image)))
    module = pillow()
    if module is not None and isinstance(image, module.Image):
        return pil_file(image, limit) or encode_png(np.asarray(resize.image(pil_pixels(image))))
    if isinstance(image, io.TextIOBase):
        raise _refused("a file opened as text: open it in binary mode")
    if callable(getattr(image, "read", None)):
        return read_file(image, limit)  # type: ignore[arg-type]  # has `read`
    if callable(getattr(image, "save", None)):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")  # type: ignore[attr-defined]
        return buffer.getvalue()
    if is_missing(image):
        raise _refused("must not be empty")
    raise _refused(
        "not an image: give a path, bytes, a binary file, a PIL image or an array of uint8"
    )


def _read_path(path: str | PathLike[str], limit: int) -> bytes:
    """Looks at what the path names before it is opened: a pipe would block, a device never ends."""
    if is_address(str(path)):
        raise _refused("addresses are not fetched: give the path of a file")
    try:
        status = os.stat(path)
        _check_regular(status)
        _check_size(status.st_size, limit)
        # The path may name something else by now: O_NONBLOCK, and a second look at what was opened.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            _check_regular(os.fstat(file.fileno()))
            return read_file(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        raise ItemError(grpc.StatusCode.NOT_FOUND, "image: no such file") from None
    except OSError as error:
        raise _refused((error.strerror or "cannot be read").lower()) from None
    except ItemError:
        raise
    except ValueError:  # a null character
        raise _refused("not a path") from None


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _refused("a folder: give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise _refused("not a regular file")


def read_file(file: BinaryFile, limit: int) -> bytes:
    """The rest of a file. Raises ItemError when it is longer than the limit."""
    parts: list[bytes] = []
    size = 0
    while True:
        part = file.read(min(_CHUNK_BYTES, limit + 1 - size))
        if isinstance(part, str):
            raise _refused("a file opened as text: open it in binary mode")
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _refused(f"more than {limit} bytes, at most {limit} are accepted")


def _array_pixels(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (H, W, C) of an array that has them. Raises ItemError."""
    pixels = array[:, :, None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _CHANNELS:
        shape = " x ".join(map(str, array.shape))
        raise _refused(
            f"an array of {array.dtype}, {shape}: must be uint8, height x width, or with"
            " 1, 3 or 4 channels behind"
        )
    if not pixels.size:
        raise _refused("must not be empty")
    return pixels


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _refused(f"{size} bytes, at most {limit} are accepted")


def _refused(problem: str) -> ItemError:
    return ItemError(grpc.StatusCode.INVALID_ARGUMENT, f"image: {problem}")
