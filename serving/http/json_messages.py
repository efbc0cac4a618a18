"""Between JSON objects and the messages of the wire contract, as protobuf's JSON has them.

protobuf's own parser is not used: its errors name classes and not the field of the request.
"""

from __future__ import annotations

import binascii
import math
import re
from typing import Any, cast

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from serving.core.errors import invalid

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_FLOAT_MAX = 3.4028234663852886e38
_DIGITS = re.compile(r"-?[0-9]{1,20}")


def fill(message: Message, data: Any, at: str = "") -> None:
    """Sets the fields of `message` from a JSON object, which is at the path `at` of the request.

    Names are those of the contract, or the same in lowerCamelCase; null leaves a field unset.
    Raises ServingError naming the field, for an unknown one as well.
    """
    if not isinstance(data, dict):
        raise invalid(at or "body", "must be an object")
    taken: dict[str, str] = {}
    for name, value in data.items():
        path = f"{at}.{name}" if at else name
        field = _field(message, name)
        if field is None:
            raise invalid(shown(path), "there is no such field")
        if value is None:
            continue
        group = field.containing_oneof.name if field.containing_oneof else field.name
        if (other := taken.get(group)) is not None:
            raise invalid(path, f"cannot be combined with {other}")
        taken[group] = name
        _set(message, field, value, path)


def to_json(message: Message) -> dict[str, Any]:
    """A message as a JSON object: names of the contract, defaults printed."""
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def decode_base64(text: Any, path: str) -> bytes:
    """The bytes of base64, in its common or its URL-safe alphabet. Raises ServingError."""
    if not isinstance(text, str):
        raise invalid(path, "must be base64")
    try:
        raw = text.encode("ascii")
        if b"-" in raw or b"_" in raw:
            raw = raw.replace(b"-", b"+").replace(b"_", b"/")
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid(path, "must be base64") from None


def _field(message: Message, name: str) -> FieldDescriptor | None:
    fields = message.DESCRIPTOR
    field = fields.fields_by_name.get(name) or fields.fields_by_camelcase_name.get(name)
    return cast("FieldDescriptor | None", field)


def shown(path: str) -> str:
    """A path that the caller chose, fit for a message."""
    return re.sub(r"[^\w.\[\]-]", "?", path)[:100]


def _set(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if not field.is_repeated:
        if field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, value, path)
        else:
            setattr(message, field.name, _scalar(field, value, path))
        return
    if not isinstance(value, list):
        raise invalid(path, "must be a list")
    entries = getattr(message, field.name)
    for i, entry in enumerate(value):
        if field.message_type is not None:
            fill(entries.add(), entry, f"{path}[{i}]")
        else:
            entries.append(_scalar(field, entry, f"{path}[{i}]"))


def _scalar(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.enum_type is not None:
        return _enum(field.enum_type, value, path)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return decode_base64(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return unicode_text(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise invalid(path, "must be true or false")
        return value
    if field.cpp_type in _FLOATS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(path, "must be a number")
        if not abs(value) <= _FLOAT_MAX:
            raise invalid(path, "must be a finite number")
        return float(value)
    return _integer(value, *_RANGES[field.cpp_type], path)


def unicode_text(value: Any, path: str) -> str:
    """A text that UTF-8 can hold. Raises ServingError."""
    if not isinstance(value, str):
        raise invalid(path, "must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(path, "must be Unicode text") from None
    return value


def _integer(value: Any, low: int, high: int, path: str) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):  # protobuf's JSON of 64-bit integers
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(path, "must be an integer")
    if not low <= value <= high:
        raise invalid(path, f"must be {low} to {high}")
    return value


def _enum(enum: EnumDescriptor, value: Any, path: str) -> int:
    values = enum.values_by_name
    if isinstance(value, str):
        if value not in values:
            raise invalid(path, f"must be one of {', '.join(values)}")
        return int(values[value].number)
    return _integer(value, -(2**31), 2**31 - 1, path)
