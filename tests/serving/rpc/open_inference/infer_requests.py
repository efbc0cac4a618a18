"""Calls of the Open Inference Protocol, as tests make them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference import open_inference_pb2_grpc
from serving.rpc.open_inference.tensors import joined, split
from tests.serving.support.running_server import Running


def infer_request(
    name: str,
    elements: Sequence[bytes],
    *outputs: str,
    raw: bool = True,
    parameters: dict[str, Any] | None = None,
    model: str = "tiny",
    **changes: Any,
) -> pb.ModelInferRequest:
    """A call with one tensor of bytes."""
    request = pb.ModelInferRequest(model_name=model, **changes)
    tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)])
    if raw:
        request.raw_input_contents.append(joined(elements))
    else:
        tensor.contents.bytes_contents.extend(elements)
    for output in outputs:
        request.outputs.add(name=output)
    for key, value in (parameters or {}).items():
        request.parameters[key].CopyFrom(parameter(value))
    return request


def parameter(value: Any) -> pb.InferParameter:
    """A value with its type, as clients send it."""
    match value:
        case bool():
            return pb.InferParameter(bool_param=value)
        case int():
            return pb.InferParameter(int64_param=value)
        case float():
            return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)


def arrays(reply: pb.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """The tensors of a reply."""
    assert len(reply.raw_output_contents) == len(reply.outputs)
    found = {}
    for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        if tensor.datatype == "BYTES":
            elements = split(raw, int(np.prod(tensor.shape)), tensor.name)
            array: NDArray[Any] = np.array(elements, dtype=object)
        else:
            array = np.frombuffer(raw, {"INT32": "<i4", "FP32": "<f4"}[tensor.datatype])
        found[tensor.name] = array.reshape(tensor.shape)
    return found


def stub(running: Running) -> Any:
    """Calls of the server of a test."""
    return open_inference_pb2_grpc.GRPCInferenceServiceStub(running.channel)  # type: ignore[no-untyped-call]
