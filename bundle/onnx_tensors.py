"""Where the tensors of an ONNX file are kept, read from the file's own bytes.

A tensor may name another file that holds its values. ONNX Runtime would follow the name out of the
bundle, past the digests of the manifest. The fields are those of onnx.proto3; the wire format is
that of protobuf (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""The fields through which a tensor can be reached, and what each of them holds."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor: the name of another file, and whether that file holds the values."""

_MAX_DEPTH = 64
"""Graphs inside of graphs. A deeper file is refused."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class OnnxFileError(ValueError):
    """Bytes that are no ONNX file."""


def has_external_tensors(data: memoryview) -> bool:
    """Whether a tensor anywhere in an ONNX model keeps its values in another file.

    Values inside of the file are skipped, not read. Raises OnnxFileError.
    """
    pending: list[tuple[str, memoryview, int]] = [("model", data, 0)]
    while pending:
        message, content, depth = pending.pop()
        if depth > _MAX_DEPTH:
            raise OnnxFileError("too deeply nested")
        for number, value in _fields(content):
            if message == "tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                    return True
            elif (inner := _MESSAGES[message].get(number)) is not None:
                if not isinstance(value, memoryview):
                    raise OnnxFileError("not a message")
                pending.append((inner, value, depth + 1))
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The number and value of each field of a message; of fixed-size fields the value is 0."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        wire_type = key & 7
        value: int | memoryview = 0
        if wire_type == _VARINT:
            value, position = _varint(content, position)
        elif wire_type == _BYTES:
            length, position = _varint(content, position)
            value = content[position : position + length]
            position += length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:  # groups, which proto3 does not have
            raise OnnxFileError("unknown wire type")
        if position > len(content):
            raise OnnxFileError("cut short")
        yield key >> 3, value


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    """A number of up to ten bytes, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise OnnxFileError("cut short")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxFileError("a number of more than ten bytes")
