"""Reads a state dict that `torch.save` wrote before torch 1.6, without unpickling it.

Such a file is five pickles (a magic number, a version, the machine's sizes, the tensors' shapes,
the order of their storages), followed by the storages' bytes. A pickle is a program. This module
interprets only the instructions that build plain values, and calls nothing: it knows the two
functions that a state dict names, and any other name is an error.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any, NamedTuple

import torch
from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the format."""

DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
DTYPES = {"torch FloatStorage": torch.float32, "torch LongStorage": torch.int64}


class _TensorView(NamedTuple):
    """A tensor as a view of its storage; offset and stride count elements."""

    storage: str
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _StackMark:
    """Marks on the stack where a tuple or a list begins."""


def read_state_dict(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file, by name, in the file's order.

    Raises ValueError for any other data.
    """
    stream = io.BytesIO(data)
    try:
        if _value(stream) != MAGIC:
            raise ValueError("no magic number")
        _version, _sizes, views, order = (_value(stream) for _ in range(4))
        dtypes = {view.storage: view.dtype for view in views.values()}
        storages = {key: _storage(stream, dtypes[key]) for key in order}
        return {name: _tensor(view, storages[view.storage]) for name, view in views.items()}
    except Exception as error:  # damaged bytes can fail in any way
        raise ValueError("not a state dict in torch's format before 1.6") from error


def _storage(stream: io.BytesIO, dtype: torch.dtype) -> Tensor:
    count = int.from_bytes(stream.read(8), "little")
    return torch.frombuffer(bytearray(stream.read(count * dtype.itemsize)), dtype=dtype)


def _tensor(view: _TensorView, storage: Tensor) -> Tensor:
    return storage.as_strided(view.size, view.stride, view.offset).clone()


def _value(stream: io.BytesIO) -> Any:
    """The value that the next pickle of the stream builds."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def from_mark() -> list[Any]:
        start = max(i for i, item in enumerate(stack) if isinstance(item, _StackMark))
        items = stack[start + 1 :]
        del stack[start:]
        return items

    for code, argument, _ in pickletools.genops(stream):
        match code.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                stack.append(_StackMark())
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "GLOBAL":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code.name])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[code.name])
            case "TUPLE":
                stack.append(tuple(from_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPENDS":
                items = from_mark()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][key] = value
            case "SETITEMS":
                items = from_mark()
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPERSID":
                _kind, storage, key, _device, _count, _view = stack.pop()
                stack.append((key, DTYPES[storage]))
            case "REDUCE":
                arguments, name = stack.pop(), stack.pop()
                stack.append(_called(name, arguments))
            case "BUILD":
                stack.pop()  # a dictionary's `_metadata`, which describes torch's modules
            case other:
                raise ValueError(f"{other}: no state dict needs it")
    raise ValueError("ends before its value")


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
    """The result of one of the two functions that a state dict names."""
    if name == DICT and not arguments:
        return {}
    if name == TENSOR:
        (key, dtype), offset, size, stride, _grad, _hooks = arguments
        return _TensorView(key, dtype, offset, size, stride)
    raise ValueError(f"{name}: no state dict needs it")
