"""Calls of KServe's gRPC client, run where it is installed: `python kserve_calls.py < JSON`."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput


async def main(given: dict[str, Any]) -> dict[str, Any]:
    """What the server says of itself, and the answer to each call."""
    client = InferenceGRPCClient(url=given["address"], retries=0, channel_args=[])
    answers = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model": await client.is_model_ready(given["model"]),
        "calls": [await infer(client, given["model"], made) for made in given["calls"]],
    }
    await client.close()
    return answers


async def infer(client: InferenceGRPCClient, model: str, made: dict[str, Any]) -> dict[str, Any]:
    """One call: its values in raw_input_contents, or in bytes_contents."""
    elements = [base64.b64decode(one) for one in made["elements"]]
    tensor = InferInput(made["input"], [len(elements)], "BYTES")
    if made["raw"]:
        tensor.set_data_from_numpy(np.array(elements, dtype=object), binary_data=True)
    else:
        tensor.data = elements
    request = InferRequest(
        model_name=model,
        infer_inputs=[tensor],
        request_id="kserve",
        parameters=made.get("parameters"),
        request_outputs=[RequestedOutput(name) for name in made.get("outputs", ())],
    )
    try:
        response = await client.infer(request)
    except grpc.RpcError as error:
        return {"error": error.details()}
    values = {}
    for output in response.outputs:
        array = output.as_numpy()
        values[output.name] = (
            [[one.decode() for one in row] for row in array]
            if output.datatype == "BYTES"
            else array.tolist()
        )
    return {"id": response.id, "values": values}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
