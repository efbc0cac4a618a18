"""Operations of ONNX in torch, as far as graphs of image and text towers have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from serving.engines._torch_arranging import ARRANGING, Attributes, Operator, host, sizes, tensor


def _elementwise(on_tensors: Callable[..., Any], on_sizes: Callable[..., Any]) -> Operator:
    def run(inputs: list[Any], attributes: Attributes) -> Any:
        if all(map(host, inputs)):
            return np.asarray(on_sizes(*inputs))
        return on_tensors(*map(tensor, inputs))

    return run


def _function(on_tensors: Callable[..., Any]) -> Operator:
    return lambda inputs, attributes: on_tensors(*inputs)


def _reduction(on_tensor: Callable[..., Any]) -> Operator:
    def run(inputs: list[Any], attributes: Attributes) -> Any:
        data, axes = inputs[0], inputs[1:] and inputs[1]
        dims = sizes(axes) if axes is not None and len(axes) else attributes.get("axes")
        if dims is None:
            dims = list(range(data.ndim))
        return on_tensor(data, dims, bool(attributes.get("keepdims", 1)))

    return run


def _cast(inputs: list[Any], attributes: Attributes) -> Any:
    value, kind = inputs[0], attributes["to"]
    if host(value):
        return value if not kind.is_floating_point else torch.tensor(value.tolist(), dtype=kind)
    return value.to(kind)


def _conv(inputs: list[Any], attributes: Attributes) -> Any:
    data, weight = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    spatial = data.ndim - 2
    pads = attributes.get("pads", [0] * 2 * spatial)
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise NotImplementedError("Conv with auto_pad")
    if pads[:spatial] != pads[spatial:]:
        flat = [n for i in reversed(range(spatial)) for n in (pads[i], pads[spatial + i])]
        data, pads = F.pad(data, flat), [0] * 2 * spatial
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[spatial]
    return function(
        data,
        weight,
        bias,
        stride=attributes.get("strides", [1] * spatial),
        padding=pads[:spatial],
        dilation=attributes.get("dilations", [1] * spatial),
        groups=attributes.get("group", 1),
    )


def _gemm(inputs: list[Any], attributes: Attributes) -> Any:
    a, b = inputs[0], inputs[1]
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = a @ b
    product = product if alpha == 1 else product * alpha
    if len(inputs) < 3:
        return product
    return product + (inputs[2] if beta == 1 else inputs[2] * beta)


def _layer_norm(inputs: list[Any], attributes: Attributes) -> Any:
    data, scale = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    axis = attributes.get("axis", -1) % data.ndim
    return F.layer_norm(data, data.shape[axis:], scale, bias, attributes.get("epsilon", 1e-5))


def _batch_norm(inputs: list[Any], attributes: Attributes) -> Any:
    data, scale, bias, mean, variance = inputs
    return F.batch_norm(data, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _softmax(inputs: list[Any], attributes: Attributes) -> Any:
    return torch.softmax(inputs[0], attributes.get("axis", -1))


def _gelu(inputs: list[Any], attributes: Attributes) -> Any:
    return F.gelu(inputs[0], approximate=attributes.get("approximate", "none"))


def _clip(inputs: list[Any], attributes: Attributes) -> Any:
    low, high = ([None if bound is None else tensor(bound) for bound in inputs[1:]] + [None] * 2)[
        :2
    ]
    return torch.clamp(inputs[0], low, high)


def _hard_sigmoid(inputs: list[Any], attributes: Attributes) -> Any:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return torch.clamp(inputs[0] * alpha + beta, 0, 1)


def _topk(inputs: list[Any], attributes: Attributes) -> Any:
    count = int(sizes(inputs[1])[0])
    return torch.topk(
        inputs[0],
        count,
        attributes.get("axis", -1),
        bool(attributes.get("largest", 1)),
        bool(attributes.get("sorted", 1)),
    )


def _argmax(inputs: list[Any], attributes: Attributes) -> Any:
    return inputs[0].argmax(attributes.get("axis", 0), bool(attributes.get("keepdims", 1)))


def _divide(a: Any, b: Any) -> Any:
    whole = not any(isinstance(x, float) or getattr(x, "is_floating_point", bool)() for x in (a, b))
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


OPERATORS: dict[str, Operator] = {
    **ARRANGING,
    "Abs": _function(torch.abs),
    "Add": _elementwise(lambda a, b: a + b, lambda a, b: a + b),
    "And": _elementwise(torch.logical_and, np.logical_and),
    "ArgMax": _argmax,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Conv": _conv,
    "Cos": _function(torch.cos),
    "Div": _elementwise(_divide, lambda a, b: a // b),
    "Equal": _elementwise(torch.eq, lambda a, b: a == b),
    "Erf": _function(torch.erf),
    "Exp": _function(torch.exp),
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda inputs, attributes: inputs[0].mean((-2, -1), keepdim=True),
    "Greater": _elementwise(torch.gt, lambda a, b: a > b),
    "GreaterOrEqual": _elementwise(torch.ge, lambda a, b: a >= b),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _function(F.hardswish),
    "Identity": lambda inputs, attributes: inputs[0],
    "LayerNormalization": _layer_norm,
    "Less": _elementwise(torch.lt, lambda a, b: a < b),
    "LessOrEqual": _elementwise(torch.le, lambda a, b: a <= b),
    "MatMul": _function(torch.matmul),
    "Max": _elementwise(torch.maximum, np.maximum),
    "Min": _elementwise(torch.minimum, np.minimum),
    "Mul": _elementwise(lambda a, b: a * b, lambda a, b: a * b),
    "Neg": _function(torch.neg),
    "Not": _function(torch.logical_not),
    "Pow": _elementwise(torch.pow, lambda a, b: a**b),
    "Reciprocal": _function(torch.reciprocal),
    "ReduceL2": _reduction(lambda x, dims, keep: torch.linalg.vector_norm(x, 2, dims, keep)),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "Relu": _function(torch.relu),
    "Sigmoid": _function(torch.sigmoid),
    "Sin": _function(torch.sin),
    "Softmax": _softmax,
    "Sqrt": _function(torch.sqrt),
    "Sub": _elementwise(lambda a, b: a - b, lambda a, b: a - b),
    "Tanh": _function(torch.tanh),
    "TopK": _topk,
    "Where": _elementwise(torch.where, np.where),
}
