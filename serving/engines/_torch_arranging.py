"""Operations of ONNX that arrange numbers and ask for sizes, in torch.

An operation takes its inputs and its attributes. A value is a tensor, or a numpy array of what
torch.export has to know while it reads the graph: a constant number, or sizes, which `Shape` and
arithmetic among sizes give. Sizes may be symbols, as that of a batch is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Attributes = dict[str, Any]
Operator = Callable[[list[Any], Attributes], Any]
"""It takes inputs and attributes, and returns a value or several."""


def sizes(value: Any) -> list[Any]:
    """Whole numbers as a list, such as a shape or axes."""
    return list(value.tolist() if isinstance(value, torch.Tensor) else value.reshape(-1))


def tensor(value: Any) -> Any:
    """A value as a tensor. A number stays a number: it may be a symbol."""
    if isinstance(value, torch.Tensor):
        return value
    return value.item() if value.ndim == 0 else torch.tensor(value.tolist())


def host(value: Any) -> bool:
    """Whether a value is known while the graph is read."""
    return isinstance(value, np.ndarray)


def _reshape(inputs: list[Any], attributes: Attributes) -> Any:
    data, shape = inputs[0], sizes(inputs[1])
    if not attributes.get("allowzero", 0):
        # A 0 stands for the size that is there.
        known = data.shape
        shape = [
            known[i] if isinstance(size, int | np.integer) and size == 0 else size
            for i, size in enumerate(shape)
        ]
    return data.reshape(shape)


def _squeeze(inputs: list[Any], attributes: Attributes) -> Any:
    data = inputs[0]
    axes = sizes(inputs[1]) if len(inputs) > 1 else [i for i, n in enumerate(data.shape) if n == 1]
    axes = sorted((int(axis) % data.ndim for axis in axes), reverse=True)
    for axis in axes:
        data = data.squeeze(axis)
    return data


def _unsqueeze(inputs: list[Any], attributes: Attributes) -> Any:
    data, axes = inputs[0], [int(axis) for axis in sizes(inputs[1])]
    for axis in sorted(axis % (data.ndim + len(axes)) for axis in axes):
        data = np.expand_dims(data, axis) if host(data) else data.unsqueeze(axis)
    return data


def _slice(inputs: list[Any], attributes: Attributes) -> Any:
    data, starts, ends = inputs[0], sizes(inputs[1]), sizes(inputs[2])
    axes = sizes(inputs[3]) if len(inputs) > 3 else range(len(starts))
    steps = sizes(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    parts = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            raise NotImplementedError("Slice with a negative step")
        parts[int(axis)] = slice(start, None if end >= 2**31 - 1 else end, step)
    return data[tuple(parts)]


def _gather(inputs: list[Any], attributes: Attributes) -> Any:
    data, indices = inputs
    axis = attributes.get("axis", 0)
    if host(data):
        return np.take(data, np.asarray(indices, dtype=np.int64), axis=axis)
    if host(indices):
        if indices.ndim == 0:
            return data.select(axis, int(indices))
        indices = tensor(indices).to(data.device)
    axis = axis % data.ndim
    indices = torch.where(indices < 0, indices + data.shape[axis], indices)
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return data.index_select(axis, indices.reshape(-1)).reshape(shape)


def _gather_nd(inputs: list[Any], attributes: Attributes) -> Any:
    data, indices = inputs
    if attributes.get("batch_dims", 0):
        raise NotImplementedError("GatherND with batch_dims")
    return data[tuple(indices.unbind(-1))]


def _concat(inputs: list[Any], attributes: Attributes) -> Any:
    axis = attributes["axis"]
    if all(map(host, inputs)):
        return np.concatenate(inputs, axis)
    return torch.cat([tensor(value) for value in inputs], axis)


def _split(inputs: list[Any], attributes: Attributes) -> Any:
    data, axis = inputs[0], attributes.get("axis", 0)
    if len(inputs) > 1:
        return torch.split(data, [int(size) for size in sizes(inputs[1])], axis)
    return torch.chunk(data, attributes["num_outputs"], axis)


def _pad(inputs: list[Any], attributes: Attributes) -> Any:
    data, pads = inputs[0], [int(pad) for pad in sizes(inputs[1])]
    value = tensor(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    axes = [int(axis) for axis in sizes(inputs[3])] if len(inputs) > 3 else list(range(data.ndim))
    if attributes.get("mode", "constant") != "constant":
        raise NotImplementedError(f"Pad with the mode {attributes['mode']}")
    before, after = pads[: len(axes)], pads[len(axes) :]
    amounts = {
        axis % data.ndim: pair
        for axis, pair in zip(axes, zip(before, after, strict=True), strict=True)
    }
    flat = [n for axis in reversed(range(data.ndim)) for n in amounts.get(axis, (0, 0))]
    return F.pad(data, flat, value=float(value))


def _range(inputs: list[Any], attributes: Attributes) -> Any:
    start, end, step = (tensor(value) for value in inputs)
    return torch.arange(start, end, step)


def _shape(inputs: list[Any], attributes: Attributes) -> Any:
    end = attributes.get("end", inputs[0].ndim)
    return np.array(list(inputs[0].shape)[attributes.get("start", 0) : end], dtype=object)


def _expand(inputs: list[Any], attributes: Attributes) -> Any:
    data = torch.as_tensor(tensor(inputs[0]))
    return data.expand(torch.broadcast_shapes(tuple(data.shape), tuple(sizes(inputs[1]))))


def _constant_of_shape(inputs: list[Any], attributes: Attributes) -> Any:
    value = attributes.get("value", torch.zeros(1))
    return torch.full(sizes(inputs[0]), value.item(), dtype=value.dtype)


def _transpose(inputs: list[Any], attributes: Attributes) -> Any:
    data = inputs[0]
    return data.permute(attributes.get("perm", list(reversed(range(data.ndim)))))


ARRANGING: dict[str, Operator] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
