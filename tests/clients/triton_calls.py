"""Calls of tritonclient, run where it is installed: `python triton_calls.py MODE < JSON > JSON`.

It prints what it was answered; the tests compare that with our own client.
"""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio


def tensor(name: str, elements: list[bytes]) -> triton.InferInput:
    """An input of bytes."""
    made = triton.InferInput(name, [len(elements)], "BYTES")
    made.set_data_from_numpy(np.array(elements, dtype=object))
    return made


def call(given: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `infer` for one entry of `calls`."""
    outputs = [triton.InferRequestedOutput(name) for name in made.get("outputs", ())]
    return {
        "model_name": given["model"],
        "inputs": [tensor(made["input"], [base64.b64decode(one) for one in made["elements"]])],
        "outputs": outputs or None,
        "request_id": made.get("id", ""),
        "parameters": made.get("parameters"),
    }


def told(result: Any, error: Any = None) -> dict[str, Any]:
    """A reply, or an error, as JSON."""
    if error is not None:
        return {"error": error.message(), "status": error.status()}
    response = result.get_response()
    arrays = {one.name: result.as_numpy(one.name) for one in response.outputs}
    return {
        "id": response.id,
        "version": response.model_version,
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
        "types": {name: str(array.dtype) for name, array in arrays.items()},
        "values": {name: listed(array) for name, array in arrays.items()},
    }


def listed(array: Any) -> Any:
    """The values of an array, texts decoded."""
    if array.dtype == object:
        return [[one.decode() for one in row] for row in array]
    return array.tolist()


def about(given: dict[str, Any]) -> dict[str, Any]:
    """What the server says of itself and its model."""
    client = triton.InferenceServerClient(given["address"])
    model = given["model"]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model": client.is_model_ready(model),
        "other": client.is_model_ready("other"),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(model, as_json=True),
        "config": client.get_model_config(model, as_json=True),
        "index": client.get_model_repository_index(as_json=True),
        "statistics": client.get_inference_statistics(model, as_json=True),
    }


def blocking(given: dict[str, Any]) -> list[dict[str, Any]]:
    """One call after another."""
    client = triton.InferenceServerClient(given["address"])
    answers = []
    for made in given["calls"]:
        try:
            answers.append(told(client.infer(**call(given, made), headers=given.get("headers"))))
        except triton.InferenceServerException as error:
            answers.append(told(None, error))
    return answers


def callbacks(given: dict[str, Any]) -> list[dict[str, Any]]:
    """All calls at once, answered by callbacks of async_infer."""
    client = triton.InferenceServerClient(given["address"])
    answered: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    for place, made in enumerate(given["calls"]):

        def on_reply(result: Any, error: Any, place: int = place) -> None:
            answered.put((place, told(result, error)))

        client.async_infer(**call(given, made), callback=on_reply)
    answers = dict(answered.get(timeout=60) for _ in given["calls"])
    return [answers[place] for place in range(len(answers))]


def stream(given: dict[str, Any]) -> list[dict[str, Any]]:
    """All calls on one stream, and the replies in the order in which they came."""
    client = triton.InferenceServerClient(given["address"])
    answered: queue.Queue[dict[str, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answered.put(told(result, error)))
    for made in given["calls"]:
        client.async_stream_infer(**call(given, made), enable_empty_final_response=True)
    answers = [answered.get(timeout=60) for _ in given["calls"]]
    client.stop_stream()
    return answers


async def aio(given: dict[str, Any]) -> list[dict[str, Any]]:
    """All calls at once, in asyncio."""
    async with triton_aio.InferenceServerClient(given["address"]) as client:
        answers = await asyncio.gather(
            *(client.infer(**call(given, made)) for made in given["calls"]), return_exceptions=True
        )
    return [
        told(None, one) if isinstance(one, triton.InferenceServerException) else told(one)
        for one in answers
    ]


async def aio_stream(given: dict[str, Any]) -> list[dict[str, Any]]:
    """All calls on one stream, in asyncio."""

    async def requests() -> Any:
        for made in given["calls"]:
            yield call(given, made)

    async with triton_aio.InferenceServerClient(given["address"]) as client:
        return [told(*reply) async for reply in client.stream_infer(requests())]


def repository(given: dict[str, Any]) -> dict[str, Any]:
    """Loads the model with each of the headers, and unloads it with the last ones."""
    client = triton.InferenceServerClient(given["address"])
    errors = []
    for headers in given["headers"]:
        try:
            client.load_model(given["model"], headers=headers)
            errors.append(None)
        except triton.InferenceServerException as error:
            errors.append(error.status())
    index = client.get_model_repository_index(headers=headers, as_json=True)
    try:
        client.unload_model(given["model"], headers=headers)
        errors.append(None)
    except triton.InferenceServerException as error:
        errors.append(error.message())
    return {"errors": errors, "index": index}


MODES = {
    function.__name__: function
    for function in (about, aio, aio_stream, blocking, callbacks, repository, stream)
}


if __name__ == "__main__":
    function = MODES[sys.argv[1]]
    answer = function(json.load(sys.stdin))
    print(json.dumps(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer))
