"""Images of a user's folder, as a model reads them: to compare and calibrate engines on."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageError, ImageLimits
from bundle.image_formats import IMAGE_SUFFIXES, UNSUPPORTED_IMAGE_SUFFIXES
from bundle.store import Bundle
from serving.storage.left_out import LeftOut
from serving.storage.local_tree import NOT_A_FILE, problem_of, walk_local

_TRIES = 8
"""How many files are tried for each image that is wanted: a folder may hold a million broken ones.
"""


class GateInputsError(ValueError):
    """The images of a folder do not do. The message is one line."""


@dataclass(frozen=True)
class UserImages:
    """Some images of a folder, spread evenly over it."""

    pixels: list[NDArray[np.float32]]
    """(3, S, S) each."""
    left_out: LeftOut
    """How many files could not be read, by reason, and how many are no images, by their ending."""


def read_user_images(bundle: Bundle, folder: Path, most: int) -> UserImages:
    """Up to `most` images in and below a folder, of every format that is decoded. A file that
    cannot be read is left out, and another takes its place.

    Raises GateInputsError for what is no folder.
    """
    if not folder.is_dir():
        raise GateInputsError("--images: not a folder")
    left_out = LeftOut()
    files: list[str] = []
    for path, problem in walk_local(str(folder), left_out.add):
        if problem:
            left_out.add(problem)
        elif path.lower().endswith((*IMAGE_SUFFIXES, *UNSUPPORTED_IMAGE_SUFFIXES)):
            files.append(path)
        else:
            left_out.add_name(path)
    pixels: list[NDArray[np.float32]] = []
    for path in _spread(files, most)[: _TRIES * most]:
        if len(pixels) == most:
            break
        try:
            data = _read(folder / path)
            pixels.append(bundle.preprocessor.decode(data, ImageLimits()).pixels)
        except ImageError as error:
            left_out.add(str(error))
        except OSError as error:
            left_out.add(problem_of(error))
    return UserImages(pixels, left_out)


def _spread(files: list[str], most: int) -> list[str]:
    """All files, with `most` first that are spread evenly over them."""
    step = max(1.0, len(files) / most)
    first = {int(number * step) for number in range(min(most, len(files)))}
    others = [path for number, path in enumerate(files) if number not in first]
    return [files[number] for number in sorted(first)] + others


def _read(path: Path) -> bytes:
    """A regular file, no larger than an image may be: a pipe would block, and a device never ends.
    Raises ImageError and OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status, limit = os.fstat(file.fileno()), ImageLimits().bytes
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(NOT_A_FILE)
        if status.st_size > limit:
            raise ImageError(f"over the limit of {limit:,} bytes")
        return file.read(limit + 1)
