"""Why a pair is bad, or a piece is damaged, in the words that counts and reports show."""

from __future__ import annotations

from typing import NamedTuple

from bundle.text import MAX_CHARACTERS
from training.loading.sources.base import MAX_IMAGE_BYTES

UNREADABLE = "cannot be read"
"""Of a pair, of its image or of a piece."""


class FileReasons(NamedTuple):
    """Why one of the files of a pair is not read."""

    not_found: str
    not_a_file: str
    too_large: str


IMAGE = FileReasons(
    "the image is not found",
    "the image is not a file",
    f"the image has more than {MAX_IMAGE_BYTES} bytes",
)
CAPTION = FileReasons(
    "the caption is not found", "the caption is not a file", "the caption is too large"
)

NO_IMAGE = "no image"
EMPTY_IMAGE = "the image is empty"
OUTSIDE = "the image's path leads out of the folder"

NO_CAPTION = "no caption"
BLANK = "the caption is blank"
NOT_TEXT = "the caption is not a text"
NOT_UTF8 = "the caption is not UTF-8"
TOO_LONG = f"the caption has more than {MAX_CHARACTERS} characters"
UNNAMED_CLASS = "the class has no name"
NO_CLASS = "no folder that names its class"

NOT_JSON = "not JSON"
NOT_AN_OBJECT = "the JSON is not an object"
NOT_CSV = "not a row of CSV"
OTHER_COLUMNS = "not the columns of a pair"
REPEATED = "the key repeats"

CUT_SHORT = "cut short"
DAMAGED = "damaged"
EMPTY_PIECE = "empty"
PIECE_NOT_FOUND = "not found"
PIECE_NOT_A_FILE = "not a file"
NOT_A_TABLE = "not a table"
