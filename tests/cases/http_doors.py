"""The HTTP port as a door: each case in a call of its own, as JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import grpc
import httpx
from google.protobuf.json_format import ParseDict

from sparseclip._convert import coverage_from_proto
from sparseclip.v1 import embedding_pb2
from tests.cases.door_contract import Answers, DoorAnswer, OpenDoors, output_values
from tests.serving.support.server_process import Process

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def http_images(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    """The images in base64."""
    return _embedded(doors, [{"image": base64.b64encode(data).decode()} for data in images])


def http_texts(doors: OpenDoors, texts: Sequence[object]) -> Answers:
    """The texts."""
    return _embedded(doors, [{"text": str(text)} for text in texts])


def _embedded(doors: OpenDoors, inputs: Sequence[dict[str, Any]]) -> Answers:
    server = Process(doors.bundle, "--http-port", "0", "--chat", "off")
    try:
        with httpx.Client(base_url=server.http_address or "", timeout=60) as client:
            return [_answer(client, entry) for entry in inputs]
    finally:
        server.close()


def _answer(client: httpx.Client, entry: dict[str, Any]) -> DoorAnswer:
    response = client.post("/v1/embed", json={"inputs": [entry]})
    reply = ParseDict(response.raise_for_status().json(), embedding_pb2.EmbedResponse())
    [result] = reply.results
    is_refused = result.status.code == INVALID.value[0]
    return DoorAnswer(
        error=f"{INVALID.name}: {result.status.message}" if is_refused else "",
        values=output_values(result.sparse.indices, result.sparse.values, result.dense),
        coverage=coverage_from_proto(result.coverage),
    )
