"""The Open Inference Protocol as a door: each case in a call of its own, which it fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from serving.rpc.open_inference import open_inference_pb2_grpc
from tests.cases.door_contract import Answers, DoorAnswer, OpenDoors, output_values
from tests.serving.rpc.open_inference.infer_requests import arrays, infer_request


def infer(doors: OpenDoors, name: str, elements: Iterable[bytes]) -> Answers:
    """Images or texts, as raw contents."""
    with grpc.insecure_channel(doors.address) as channel:
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        return [_answer(stub, name, element) for element in elements]


def _answer(stub: Any, name: str, element: bytes) -> DoorAnswer:
    try:
        reply = stub.ModelInfer(infer_request(name, [element], model=""), timeout=60)
    except grpc.RpcError as error:
        call: Any = error
        path, _, problem = call.details().partition(": ")
        assert path == f"inputs.{name}[0]"
        return DoorAnswer(error=f"{call.code().name}: {name}: {problem}")
    found = arrays(reply)
    if "values" not in found:
        return DoorAnswer(values=output_values(None, None, found["dense"][0].tolist()))
    count = int((found["values"][0] > 0).sum())
    indices, values = (found[key][0, :count].tolist() for key in ("indices", "values"))
    return DoorAnswer(values=output_values(indices, values, None))
