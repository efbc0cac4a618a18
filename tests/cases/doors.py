"""Every way in which an image or a text comes into the system.

A new way in is one more row of IMAGE_DOORS or TEXT_DOORS: it then meets every case of the tables
beside this file. A door takes all cases at once and gives an answer for each. That all kinds
of input of an export read the same bytes is in test_collections.py.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from click.testing import CliRunner
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from serving.cli.main import main
from sparseclip import (
    AsyncClient,
    CallError,
    ChatSampling,
    Embedding,
    Item,
    ModelVersion,
    Outputs,
)
from sparseclip._convert import coverage_from_proto
from sparseclip.results import Coverage
from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc
from tests.cases.door_contract import (
    Answers,
    DoorAnswer,
    ImageDoor,
    OpenDoors,
    TextDoor,
    output_values,
)
from tests.cases.export_doors import export_images, export_texts
from tests.cases.http_doors import http_images, http_texts
from tests.cases.open_inference_doors import infer

LABELS = ("red", "dog", "a blue square")


def embedded(answers: Iterable[Embedding]) -> list[DoorAnswer]:
    """Answers of the client."""
    return [
        DoorAnswer(
            error="" if entry.ok else f"{entry.status.code.name}: {entry.status.message}",
            values=output_values(entry.indices.tolist(), entry.values.tolist(), entry.dense),
            coverage=entry.coverage if entry.ok else None,
        )
        for entry in answers
    ]


def _client_embed(form: Callable[[bytes], Any]) -> ImageDoor:
    """`Client.embed` of images in one form; a form that cannot be made is skipped."""

    def door(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
        forms: list[Any] = []
        for data in images:
            try:
                forms.append(form(data))
            except (OSError, SyntaxError, ImageError):
                forms.append(_NO_FORM)
        made = iter(embedded(doors.client.embed([f for f in forms if f is not _NO_FORM])))
        return [None if entry is _NO_FORM else next(made) for entry in forms]

    return door


_NO_FORM = object()


def _loaded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def _array(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, ImageLimits()))


def _paths(doors: OpenDoors, images: Sequence[bytes]) -> list[Path]:
    paths = [doors.folder / f"{i}.png" for i in range(len(images))]
    for path, data in zip(paths, images, strict=True):
        path.write_bytes(data)
    return paths


def _files(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    files = [path.open("rb") for path in _paths(doors, images)]
    try:
        return embedded(doors.client.embed(files))
    finally:
        for file in files:
            file.close()


def _async(doors: OpenDoors, items: Sequence[Any], texts: Sequence[Any] = ()) -> Answers:
    async def call() -> Answers:
        async with AsyncClient(doors.address) as client:
            return embedded(await client.embed(items, texts))

    return asyncio.run(call())


def _explain(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    answers = []
    for data in images:
        try:
            found = doors.client.explain(data, top_concepts=32)
        except CallError as error:
            answers.append(DoorAnswer(error=str(error)))
            continue
        concepts = [entry.concept for entry in found.explanations]
        values: Any = {concept.concept_id: concept.value for concept in concepts}
        answers.append(DoorAnswer(values=values, coverage=found.coverage))
    return answers


def _chat(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    answers = []
    for data in images:
        sampling = ChatSampling(max_tokens=1)
        try:
            with closing(doors.client.chat("What?", [data], sampling=sampling)) as events:
                start: Any = next(events)
        except CallError as error:
            answers.append(DoorAnswer(error=str(error)))
            continue
        [shown] = start.images
        values = {concept.concept_id: concept.value for concept in shown.before}
        answers.append(DoorAnswer(values=values, coverage=shown.coverage))
    return answers


def _classify(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    return [
        DoorAnswer(
            error="" if entry.ok else f"{entry.status.code.name}: {entry.status.message}",
            values=dict(entry.scores),
            coverage=entry.coverage if entry.ok else None,
        )
        for entry in doors.client.classify(images, LABELS)
    ]


def _command(doors: OpenDoors, arguments: Sequence[str]) -> Answers:
    command = ["embed", *arguments, "--captions", "0", "--json", "--server", doors.address]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [
        DoorAnswer(error=f"{row['error']['code']}: {row['error']['message']}")
        if "error" in row
        else DoorAnswer(
            values=output_values(row.get("indices"), row.get("values"), row.get("dense")),
            coverage=Coverage(
                **row["coverage"] | {"unknown_words": tuple(row["coverage"]["unknown_words"])}
            ),
        )
        for row in rows
    ]


def _raw(doors: OpenDoors, inputs: Sequence[embedding_pb2.EmbedInput]) -> Answers:
    with grpc.insecure_channel(doors.address) as channel:
        stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]
        replies = [
            stub.Embed(embedding_pb2.EmbedRequest(inputs=inputs[start : start + 32]), timeout=60)
            for start in range(0, len(inputs), 32)  # a call holds no more images
        ]
    return [
        DoorAnswer(
            error=f"{grpc.StatusCode.INVALID_ARGUMENT.name}: {result.status.message}"
            if result.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            else "",
            values=output_values(result.sparse.indices, result.sparse.values, result.dense),
            coverage=coverage_from_proto(result.coverage),
        )
        for reply in replies
        for result in reply.results
    ]


IMAGE_DOORS: dict[str, ImageDoor] = {
    "path": lambda doors, images: embedded(doors.client.embed(_paths(doors, images))),
    "bytes": _client_embed(lambda data: data),
    "bytearray": _client_embed(bytearray),
    "memoryview": _client_embed(memoryview),
    "BytesIO": _client_embed(io.BytesIO),
    "file": _files,
    "PIL": _client_embed(lambda data: Image.open(io.BytesIO(data))),
    "PIL after a look": _client_embed(_loaded),
    "array": _client_embed(_array),
    "stream": lambda doors, images: embedded(doors.client.embed_stream(images)),
    "asyncio": _async,
    "explain": _explain,
    "chat": _chat,
    "classify": _classify,
    "command": lambda doors, images: _command(doors, list(map(str, _paths(doors, images)))),
    "gRPC": lambda doors, images: _raw(
        doors, [embedding_pb2.EmbedInput(image=data) for data in images]
    ),
    "http": http_images,
    "Open Inference": lambda doors, images: infer(doors, "image", images),
    "export": export_images,
}
BYTES_DOORS = frozenset(IMAGE_DOORS) - {"PIL after a look", "array"}
"""They send the file's own bytes, so that they refuse and describe what the server does."""
WITHOUT_COVERAGE = frozenset({"Open Inference"})
"""The protocol has no place for what was read of an item."""


def _labels(doors: OpenDoors, texts: Sequence[object]) -> Answers:
    """Each text as the one label of a classifier."""
    answers = []
    for text in texts:
        try:
            classifier = doors.client.classifier([text])  # type: ignore[list-item]
        except ValueError as error:
            _, _, message = str(error).partition(": ")
            answers.append(DoorAnswer(error=f"INVALID_ARGUMENT: {message}"))
            continue
        column = classifier.weights[:, 0]
        [coverage] = classifier.coverage.values()
        values: Any = {i: float(column[i]) for i in np.flatnonzero(column)}
        answers.append(DoorAnswer(values=values, coverage=coverage))
    return answers


def _text_stream(doors: OpenDoors, texts: Sequence[Any]) -> Answers:
    items = [Item(source=f"text[{i}]", text=text) for i, text in enumerate(texts)]
    return embedded(doors.client.embed_stream(items))


def _options(texts: Sequence[object]) -> list[str]:
    return [part for text in texts for part in ("--text", str(text))]


TEXT_DOORS: dict[str, TextDoor] = {
    "embed": lambda doors, texts: embedded(doors.client.embed([], texts)),  # type: ignore[arg-type]
    "stream": _text_stream,
    "asyncio": lambda doors, texts: _async(doors, [], texts),
    "label": _labels,
    "command": lambda doors, texts: _command(doors, _options(texts)),
    "gRPC": lambda doors, texts: _raw(
        doors, [embedding_pb2.EmbedInput(text=str(text)) for text in texts]
    ),
    "http": http_texts,
    "Open Inference": lambda doors, texts: infer(
        doors, "text", [str(text).encode() for text in texts]
    ),
    "export": export_texts,
}
ANY_VALUE_DOORS = ("embed", "stream", "asyncio")
"""They take what is no text, and what no message can hold, as a failure of its item."""


def cosine(one: Mapping[Any, float], other: Mapping[Any, float]) -> float:
    """Of the values of `one`, with those that `other` has for the same keys."""
    keys = list(one)
    a = np.array([one[key] for key in keys])
    b = np.array([other.get(key, 0.0) for key in keys])
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def scores(doors: OpenDoors, answer: DoorAnswer, model: ModelVersion) -> dict[str, float]:
    """What the labels of `classify` score on a code that came in by another door."""
    ids = np.array(list(answer.values), dtype=np.uint32)
    values = np.array(list(answer.values.values()), dtype=np.float32)
    norm = float(np.linalg.norm(values))
    [status] = {entry.status for entry in doors.client.embed([], ["a"], outputs=Outputs())}
    item = Embedding(
        source="", status=status, model=model, width=doors.classifier.weights.shape[0],
        indices=ids, values=values, norm=norm,
    )  # fmt: skip
    return dict(doors.classifier.score(item).scores)
