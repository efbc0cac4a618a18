"""A graph of a bundle as a torch module, which torch.export reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from serving.engines._torch_arranging import Attributes
from serving.engines._torch_operators import OPERATORS
from serving.engines.base import EngineError


class TorchGraph(torch.nn.Module):
    """Runs the nodes of an `onnx.ModelProto` with torch, on one input tensor."""

    def __init__(self, onnx: Any, model: Any, outputs: tuple[str, ...]) -> None:
        """`outputs` are the names of what it returns, in that order. Raises EngineError for an
        operation that is not in OPERATORS."""
        super().__init__()
        self._names = outputs
        self._input: str = model.graph.input[0].name
        self._known: dict[str, Any] = {}
        self._constants: dict[str, str] = {}
        self._nodes: list[tuple[str, list[str], list[str], Attributes]] = []
        for position, entry in enumerate(model.graph.initializer):
            self._add_constant(f"constant_{position}", entry.name, _values(onnx, entry))
        unknown = sorted({node.op_type for node in model.graph.node} - set(OPERATORS))
        if unknown:
            raise EngineError(f"engine.name: torch does not run {', '.join(unknown)} of this model")
        for node in model.graph.node:
            attributes = {entry.name: _attribute(onnx, node, entry) for entry in node.attribute}
            self._nodes.append((node.op_type, list(node.input), list(node.output), attributes))

    def _add_constant(self, buffer: str, name: str, value: torch.Tensor) -> None:
        # Numbers, shapes and axes are known while the graph is read.
        if value.is_floating_point() and value.ndim:
            self.register_buffer(buffer, value)
            self._constants[name] = buffer
        else:
            self._known[name] = np.asarray(value.tolist())

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs a batch of inputs (B, ...)."""
        values: dict[str, Any] = {self._input: inputs, **self._known}
        values |= {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        for kind, read, written, attributes in self._nodes:
            # An optional input that is left out has an empty name.
            result = OPERATORS[kind]([values[name] if name else None for name in read], attributes)
            results = result if isinstance(result, tuple | list) else (result,)
            values.update(zip(written, results, strict=False))
        return tuple(values[name] for name in self._names)


def _values(onnx: Any, entry: Any) -> torch.Tensor:
    """A constant as a tensor; numpy has no bf16 of its own."""
    values = np.ascontiguousarray(onnx.numpy_helper.to_array(entry))
    if entry.data_type == onnx.TensorProto.BFLOAT16:
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(values.copy()).reshape(tuple(entry.dims))


def _attribute(onnx: Any, node: Any, entry: Any) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _values(onnx, value)
    if (node.op_type, entry.name) == ("Cast", "to"):
        return {
            onnx.TensorProto.FLOAT: torch.float32,
            onnx.TensorProto.FLOAT16: torch.float16,
            onnx.TensorProto.BFLOAT16: torch.bfloat16,
            onnx.TensorProto.INT64: torch.int64,
            onnx.TensorProto.INT32: torch.int32,
            onnx.TensorProto.BOOL: torch.bool,
        }[value]
    return list(value) if not isinstance(value, int | float) else value
