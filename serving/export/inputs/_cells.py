"""Cells of a table as images or texts, and which types of columns hold them."""

from __future__ import annotations

from typing import Any

import pyarrow
from pyarrow import types

from bundle import text
from serving.export.inputs.base import (
    EMPTY,
    UNREADABLE,
    Content,
    Modality,
    Unreadable,
    image_size_problem,
)

NO_TEXT = str(text.TextError(text.EMPTY))
ONLY_A_PATH = "no bytes, only a path"

_TEXT = (types.is_string, types.is_large_string, types.is_string_view)
_BYTES = (
    types.is_binary,
    types.is_large_binary,
    types.is_binary_view,
    types.is_fixed_size_binary,
)
_LISTS = (
    types.is_list,
    types.is_large_list,
    types.is_fixed_size_list,
    types.is_list_view,
    types.is_large_list_view,
)


def modality_of(kind: Any) -> Modality | None:
    """Whether a column of this pyarrow.DataType holds images or texts; None for neither."""
    if is_list(kind):
        kind = kind.value_type
    kind = _storage(kind)
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = _storage(kind.field("bytes").type)
        return "image" if any(is_kind(kind) for is_kind in _BYTES) else None
    if any(is_kind(kind) for is_kind in _TEXT):
        return "text"
    return "image" if any(is_kind(kind) for is_kind in _BYTES) else None


def is_list(kind: Any) -> bool:
    """Whether each cell of the column holds several images or texts."""
    return any(is_kind(kind) for is_kind in _LISTS)


def list_lengths(column: Any) -> list[int]:
    """How many items each cell of a column of lists has; 0 for one without a value."""
    return [len(cell) if cell.is_valid else 0 for cell in column]


def content(cell: Any, modality: Modality) -> Content:
    """What a pyarrow.Scalar holds. Its size is looked at before its bytes are copied."""
    cell = _stored(cell)
    if isinstance(cell, pyarrow.StructScalar):  # Hugging Face's Image: bytes and a path
        data = _stored(cell["bytes"]) if cell.is_valid else None
        if data is not None and not data.is_valid and "path" in cell and cell["path"].is_valid:
            return Unreadable(ONLY_A_PATH)
        cell = data
    if cell is None or not cell.is_valid:
        return Unreadable(NO_TEXT if modality == "text" else EMPTY)
    buffer: Any = cell.as_buffer()
    if modality == "image":
        problem = image_size_problem(buffer.size)
        return Unreadable(problem) if problem else bytes(buffer)
    if buffer.size > 4 * text.MAX_CHARACTERS:  # four bytes of UTF-8 are the most of a character
        return Unreadable(f"text: more than {text.MAX_CHARACTERS} characters")
    try:
        return str(buffer.to_pybytes(), "utf-8")
    except UnicodeDecodeError:
        return Unreadable(UNREADABLE)


def id_text(value: Any) -> str:
    """A cell of a column of ids as text; empty where it holds none."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _storage(kind: Any) -> Any:
    """The type in which the values of a dictionary or of an extension are stored."""
    while True:
        if types.is_dictionary(kind):
            kind = kind.value_type
        elif isinstance(kind, pyarrow.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _stored(cell: Any) -> Any:
    """The scalar in which the value of a dictionary or of an extension is stored; None without."""
    while isinstance(cell, pyarrow.DictionaryScalar | pyarrow.ExtensionScalar):
        cell = cell.value
    return cell
