"""From bytes to messages; refuses corrupt bytes, infinite numbers and unknown enum values."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from serving.core.errors import ErrorKind, ServingError, invalid

_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def parse(read: Callable[[bytes], Any], raw: bytes) -> Any:
    """The message that `raw` encodes.

    Raises ServingError with a constant text for bytes that do not encode one, and with the
    name of the field for NaN, infinity or an unknown enum number. Unknown fields are ignored.
    """
    try:
        message = read(raw)
    except (DecodeError, ValueError, RecursionError):
        raise ServingError(ErrorKind.INVALID, "the message cannot be parsed") from None
    if isinstance(message, Message):
        check_numbers(message, "")
    return message


def check_numbers(message: Message, at: str) -> None:
    """Raises ServingError naming the first field with a number that no field may hold.

    Messages whose type can hold neither a float nor an enum are skipped: the check of a request
    with images costs no more than one without.
    """
    if not _is_numeric(message.DESCRIPTOR):
        return
    for field, value in message.ListFields():
        path = f"{at}.{field.name}" if at else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key in value:
                _check(field.message_type.fields_by_name["value"], value[key], f"{path}[]")
        elif field.is_repeated:
            _check_all(field, value, path)
        else:
            _check(field, value, path)


def _check_all(field: FieldDescriptor, values: Sequence[Any], path: str) -> None:
    # A message may hold millions of numbers. Their places are counted only where one is wrong.
    if field.message_type is None and field.enum_type is None:
        is_right = field.cpp_type not in _FLOATS or all(map(math.isfinite, values))
        if is_right:
            return
    for i, entry in enumerate(values):
        _check(field, entry, f"{path}[{i}]")


def _check(field: FieldDescriptor, value: Any, path: str) -> None:
    if field.cpp_type in _FLOATS:
        if not math.isfinite(value):
            raise invalid(path, "must be a finite number")
    elif field.enum_type is not None:
        if value not in field.enum_type.values_by_number:
            raise invalid(path, "not a value of this enumeration")
    elif field.message_type is not None:
        check_numbers(value, path)


@functools.cache
def _is_numeric(descriptor: Descriptor) -> bool:
    """Whether a message of this type can hold a float or an enum, at any depth."""
    visited: set[str] = set()
    pending = [descriptor]
    while pending:
        current = pending.pop()
        if current.full_name in visited:
            continue
        visited.add(current.full_name)
        for field in current.fields:
            if field.cpp_type in _FLOATS or field.enum_type is not None:
                return True
            if field.message_type is not None:
                pending.append(field.message_type)
    return False
