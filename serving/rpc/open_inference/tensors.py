"""Tensors on the wire: elements of bytes, and arrays. N items."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from serving.core.errors import invalid
from serving.rpc.open_inference import open_inference_pb2 as pb

Datatype = Literal["BYTES", "FP32", "INT32"]

_NUMPY: dict[Datatype, str] = {"FP32": "<f4", "INT32": "<i4"}
_LENGTH = struct.Struct("<I")
"""What stands before each element of BYTES: its length."""


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """What a model says of one of its tensors."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """-1 is a size that varies from call to call."""


@dataclass(frozen=True, kw_only=True)
class RawTensor:
    """A tensor of a reply."""

    datatype: Datatype
    shape: tuple[int, ...]
    raw: bytes
    """Its values in the order of rows, little-endian."""

    @classmethod
    def of_array(cls, array: NDArray[Any], datatype: Datatype) -> RawTensor:
        """A tensor of numbers."""
        raw = np.ascontiguousarray(array, dtype=_NUMPY[datatype]).tobytes()
        return cls(datatype=datatype, shape=array.shape, raw=raw)

    @classmethod
    def of_bytes(cls, elements: Sequence[bytes], shape: tuple[int, ...]) -> RawTensor:
        """A tensor of bytes, from its elements in the order of rows."""
        return cls(datatype="BYTES", shape=shape, raw=joined(elements))


def joined(elements: Iterable[bytes]) -> bytes:
    """Elements of BYTES as they are sent raw."""
    return b"".join(part for one in elements for part in (_LENGTH.pack(len(one)), one))


def split(raw: bytes, count: int, at: str) -> list[bytes]:
    """The elements of BYTES that were sent raw, of which there must be `count`.

    Raises ServingError naming the tensor, which is `at`. No more elements are made than that.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(raw):
        if len(elements) == count:
            raise invalid(at, f"more bytes than the {count} elements of its shape have")
        begin = start + _LENGTH.size
        end = begin + (_LENGTH.unpack_from(raw, start)[0] if begin <= len(raw) else 0)
        if max(begin, end) > len(raw):
            raise invalid(at, f"its bytes end inside element {len(elements)}")
        elements.append(raw[begin:end])
        start = end
    _check_count(len(elements), count, at)
    return elements


def elements_of(
    tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, most: int, at: str
) -> list[bytes]:
    """The elements of an input of bytes: of shape [N], N from 1 to `most`.

    `raw` is None for a call without raw_input_contents. Raises ServingError naming the tensor,
    which is `at`, for a datatype, a shape and values that do not agree.
    """
    if tensor.datatype != "BYTES":
        raise invalid(f"{at}.datatype", "must be BYTES")
    if len(tensor.shape) != 1 or tensor.shape[0] < 1:
        raise invalid(f"{at}.shape", "must be one size, at least 1")
    count = tensor.shape[0]
    if count > most:
        raise invalid(f"{at}.shape", f"more than {most} elements in one call")
    values = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is not None:
        if values:
            raise invalid(f"{at}.contents", "must be empty beside raw_input_contents")
        return split(raw, count, at)
    if set(values) - {"bytes_contents"}:
        raise invalid(f"{at}.contents", "the values of BYTES are in bytes_contents")
    elements = list(tensor.contents.bytes_contents)
    _check_count(len(elements), count, at)
    return elements


def _check_count(found: int, count: int, at: str) -> None:
    if found != count:
        raise invalid(at, f"{found} elements, but {count} by its shape")
