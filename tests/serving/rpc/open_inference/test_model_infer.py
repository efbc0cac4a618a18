"""ModelInfer on a real server: the values of Embed, and one clear error for what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from bundle.store import open_bundle
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.service import MODEL_INFER
from sparseclip.announcement import ITEMS_HEADER
from sparseclip.v1 import embedding_pb2
from tests.serving.rpc.open_inference.infer_requests import arrays, infer_request, stub
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    encoded_image,
    eventually,
    refused,
    serving,
    unharmed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGES = [PNG, encoded_image(1), encoded_image(2)]
TEXTS = ["a red circle", "the blue square", "a cat under a tree"]


async def embedded(running: Running, inputs: list[Any], **outputs: Any) -> list[Any]:
    """What Embed says of the same items."""
    selection = embedding_pb2.OutputSelection(**outputs)
    request = embedding_pb2.EmbedRequest(inputs=inputs, outputs=selection)
    return list((await running.stub.Embed(request)).results)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", ["image", "text"])
async def test_its_values_are_those_of_embed(shared: Running, name: str, raw: bool) -> None:
    """In batches of one: runs of different sizes add numbers up in different orders."""
    elements = IMAGES if name == "image" else [text.encode() for text in TEXTS]
    for element in elements:
        content = {"image": element} if name == "image" else {"text": element.decode()}
        [result] = await embedded(
            shared,
            [embedding_pb2.EmbedInput(**content)],
            sparse=True,
            dense=True,
            top_concepts=4,
        )
        request = infer_request(name, [element], raw=raw, parameters={"top_concepts": 4})
        reply = await stub(shared).ModelInfer(request)
        assert (reply.model_name, reply.model_version) == ("tiny", "1")
        found = arrays(reply)
        assert list(found) == ["indices", "values", "active", "norm", "names", "dense"]
        count = len(result.sparse.indices)
        assert count > 0
        assert found["indices"][0, :count].tolist() == list(result.sparse.indices)
        assert found["values"][0, :count].tolist() == list(result.sparse.values)
        assert not found["indices"][0, count:].any()
        assert not found["values"][0, count:].any()
        assert found["active"].tolist() == [result.active]
        assert found["dense"].tolist() == [list(result.dense)]
        assert found["norm"].tolist() == [result.sparse.norm]
        names = [concept.name.encode() for concept in result.concepts]
        assert found["names"].tolist() == [names + [b""] * (4 - len(names))]


async def test_rows_stand_in_the_order_of_their_items(shared: Running, tiny_bundle: Path) -> None:
    architecture = open_bundle(tiny_bundle).manifest.architecture
    reply = await stub(shared).ModelInfer(infer_request("image", IMAGES, "values", "norm", id="7"))
    found = arrays(reply)
    assert reply.id == "7"
    assert list(found) == ["values", "norm"]
    assert found["values"].shape == (3, architecture.image_topk)
    results = await embedded(shared, [embedding_pb2.EmbedInput(image=one) for one in IMAGES])
    for place, result in enumerate(results):
        own = found["values"][place, : len(result.sparse.values)]
        np.testing.assert_allclose(own, result.sparse.values, atol=1e-5)
    reply = await stub(shared).ModelInfer(infer_request("text", [b"a dog"], "indices"))
    assert arrays(reply)["indices"].shape == (1, architecture.text_topk)


async def test_a_model_without_a_name_is_the_default_one(shared: Running) -> None:
    reply = await stub(shared).ModelInfer(infer_request("text", [b"a"], "norm", model=""))
    assert (reply.model_name, reply.model_version) == ("tiny", "1")


async def test_a_text_that_is_cut_is_told(shared: Running) -> None:
    elements = [b"a dog", b"star " * 40]
    reply = await stub(shared).ModelInfer(infer_request("text", elements, "norm"))
    assert reply.parameters["truncated_texts"].int64_param == 1
    reply = await stub(shared).ModelInfer(infer_request("text", elements[:1], "norm"))
    assert not reply.parameters
    refuse = infer_request("text", elements, parameters={"refuse_long_texts": True})
    error = await refused(stub(shared).ModelInfer(refuse))
    assert error.message.startswith("inputs.text[1]: ")


@pytest.mark.parametrize("raw", [True, False])
async def test_an_item_that_fails_is_named_and_counted(shared: Running, raw: bool) -> None:
    async with unharmed(shared):
        counts = {code: items(shared, "image", code) for code in ("OK", "INVALID_ARGUMENT")}
        request = infer_request("image", [PNG, b"nonsense", PNG, b""], raw=raw)
        error = await refused(stub(shared).ModelInfer(request))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.message.startswith("inputs.image[1]: ")
        assert error.message.endswith(" (1 more failed)")
        assert [violation.field for violation in error.violations] == ["inputs.image[1]"]
        assert items(shared, "image", "OK") == counts["OK"] + 2
        assert items(shared, "image", "INVALID_ARGUMENT") == counts["INVALID_ARGUMENT"] + 2


def items(running: Running, kind: str, code: str) -> float:
    labels = {"kind": kind, "code": code}
    value = running.server.metrics.registry.get_sample_value("sparseclip_items_total", labels)
    return value or 0.0


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (infer_request("text", [b"a"], model="no"), grpc.StatusCode.NOT_FOUND, "model"),
        (
            infer_request("text", [b"a"], model_version="9"),
            grpc.StatusCode.NOT_FOUND,
            "model",
        ),
        (
            infer_request("image", [PNG], parameters={"priority": 1.5}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "parameters.priority",
        ),
        (pb.ModelInferRequest(), grpc.StatusCode.INVALID_ARGUMENT, "inputs"),
    ],
)
async def test_what_is_refused_is_named(
    shared: Running, request_: pb.ModelInferRequest, code: grpc.StatusCode, field: str
) -> None:
    error = await refused(stub(shared).ModelInfer(request_))
    assert error.code is code
    assert [violation.field for violation in error.violations] == [field]


async def test_a_message_full_of_numbers_holds_nobody_up(shared: Running) -> None:
    request = infer_request("text", [b"a"], raw=False)
    request.inputs[0].contents.int_contents.extend([1] * 4_000_000)
    request.inputs[0].contents.fp32_contents.extend([1.0] * 1_000_000)
    call = asyncio.ensure_future(refused(stub(shared).ModelInfer(request, timeout=60)))
    slowest = 0.0
    loop = asyncio.get_running_loop()
    while not call.done():
        started = loop.time()
        await asyncio.sleep(0)
        slowest = max(slowest, loop.time() - started)
    assert (await call).message.startswith("inputs.text.contents: ")
    assert slowest < 1.0  # several seconds, while each number had a path of its own


async def test_a_number_that_is_none_is_refused_by_its_path(shared: Running) -> None:
    request = infer_request("text", [b"a"], raw=False)
    request.inputs[0].contents.fp32_contents.extend([1.0, float("nan")])
    error = await refused(stub(shared).ModelInfer(request))
    [violation] = error.violations
    assert violation.field == "inputs[0].contents.fp32_contents[1]"


async def test_the_timeout_of_a_call_ends_it(shared: Running) -> None:
    async with unharmed(shared):
        with blocked(shared):
            request = infer_request("image", [PNG], parameters={"timeout": 300_000})
            error = await refused(stub(shared).ModelInfer(request, timeout=30))
            assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_caller_who_leaves_takes_its_items_along(shared: Running) -> None:
    async with unharmed(shared):
        batcher = shared.server.registry.models[0].batchers["image"]
        with blocked(shared):
            call = stub(shared).ModelInfer(infer_request("image", [PNG] * 3))
            waiting = asyncio.ensure_future(call)
            assert await eventually(lambda: batcher.admission.admitted == 3)
            call.cancel()
            await asyncio.wait([waiting])
            assert await eventually(lambda: batcher.admission.admitted == 0)


async def test_a_full_server_refuses_it_also_by_its_headers(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, limits={"queue_images": 2}) as running, unharmed(running):
        error = await refused(stub(running).ModelInfer(infer_request("image", [PNG] * 3)))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.retry_after is not None
        header = ((ITEMS_HEADER, "image=3"),)
        error = await refused(running.raw(MODEL_INFER, b"\xff", metadata=header))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED  # its message was not looked at


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dense(dense_bundle: Path) -> AsyncIterator[Running]:
    async with serving(dense_bundle) as running:
        yield running


async def test_a_dense_bundle_has_its_vectors_alone(dense: Running) -> None:
    name = dense.server.registry.models[0].id.name
    [result] = await embedded(dense, [embedding_pb2.EmbedInput(image=PNG)])
    reply = await stub(dense).ModelInfer(infer_request("image", [PNG], model=name))
    found = arrays(reply)
    assert list(found) == ["dense"]
    assert found["dense"].tolist() == [list(result.dense)]
    request = infer_request("image", [PNG], "norm", model=name)
    error = await refused(stub(dense).ModelInfer(request))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert [violation.field for violation in error.violations] == ["outputs.norm"]
    metadata = await stub(dense).ModelMetadata(pb.ModelMetadataRequest(name=name))
    assert [(tensor.name, list(tensor.shape)) for tensor in metadata.outputs] == [
        ("dense", [-1, 16])
    ]
