"""Embed and GetModel, against onnxruntime and the bundle themselves."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from bundle.store import open_bundle
from sparseclip.v1 import (
    embedding_pb2,
    types_pb2,
)
from tests.serving.support.expected_outputs import direct, pixels_of
from tests.serving.support.running_server import (
    PNG,
    Running,
    embed_request,
    encoded_image,
    refused,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_embed_gives_what_the_graphs_give(shared: Running, tiny_bundle: Path) -> None:
    images, texts = [encoded_image(seed) for seed in range(3)], ["a red circle", "a dog"]
    reply = await shared.stub.Embed(embed_request(*images, texts=tuple(texts)))
    expected = direct(tiny_bundle, "image", pixels_of(tiny_bundle, *images))
    words = direct(tiny_bundle, "text", open_bundle(tiny_bundle).tokenizer.encode(texts))
    names = open_bundle(tiny_bundle).concepts
    for result, (outputs, row) in zip(
        reply.results,
        [(expected, 0), (expected, 1), (expected, 2), (words, 0), (words, 1)],
        strict=True,
    ):
        values, indices = outputs["values"][row], outputs["indices"][row]
        kept = values > 0
        order = np.argsort(indices[kept])
        assert list(result.sparse.indices) == indices[kept][order].tolist()
        np.testing.assert_allclose(result.sparse.values, values[kept][order], atol=1e-5)
        np.testing.assert_allclose(result.dense, outputs["dense"][row], atol=1e-5)
        np.testing.assert_allclose(result.sparse.norm, outputs["norm"][row], rtol=1e-5)
        assert result.active == outputs["active"][row]
        top = indices[np.argsort(-values, kind="stable")][:5]
        assert [concept.concept_id for concept in result.concepts] == top.tolist()
        assert [concept.name for concept in result.concepts] == [names[i].name for i in top]
        assert result.timings.inference_us > 0
    assert (reply.model.name, reply.model.version) == ("tiny", "1")
    assert reply.timings.total_us >= reply.timings.inference_us > 0


async def test_only_what_was_selected_is_sent(shared: Running) -> None:
    request = embed_request(PNG)
    request.outputs.Clear()
    result = (await shared.stub.Embed(request)).results[0]
    assert result.sparse.indices
    assert not result.dense
    assert not result.concepts
    request.outputs.dense = True
    result = (await shared.stub.Embed(request)).results[0]
    assert not result.HasField("sparse")
    assert len(result.dense) == 16


async def test_patch_codes_are_those_of_the_graph(shared: Running, tiny_bundle: Path) -> None:
    request = embed_request(PNG, texts=("a",))
    refs = [types_pb2.ConceptRef(name="dog"), types_pb2.ConceptRef(concept_id=200)]
    request.outputs.patch_concepts.extend(refs)
    reply = await shared.stub.Embed(request)
    outputs = direct(tiny_bundle, "patches", pixels_of(tiny_bundle, PNG))
    patches = reply.results[0].patches
    assert (patches.rows, patches.columns) == (4, 4)
    assert [entry.concept_id for entry in patches.maps] == [5, 200]
    for entry in patches.maps:
        hits = np.where(
            outputs["patch_indices"][0] == entry.concept_id, outputs["patch_values"][0], 0
        )
        np.testing.assert_allclose(entry.values, hits.sum(axis=1), atol=1e-5)
    assert not reply.results[1].HasField("patches")


async def test_get_model(shared: Running) -> None:
    reply = await shared.stub.GetModel(embedding_pb2.GetModelRequest())
    assert (reply.concepts, reply.image_size, reply.context_length) == (256, 32, 16)
    assert (reply.patch_rows, reply.patch_columns, reply.dense_dim) == (4, 4, 16)
    assert reply.limits.images_per_call == 32
    assert reply.limits.max_deadline_seconds == 120


async def test_unknown_models_are_not_found(shared: Running) -> None:
    for selector in (
        types_pb2.ModelSelector(name="other"),
        types_pb2.ModelSelector(version="9"),
        types_pb2.ModelSelector(name="../tiny"),
    ):
        error = await refused(shared.stub.GetModel(embedding_pb2.GetModelRequest(model=selector)))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_every_priority_gives_the_same_answer(shared: Running) -> None:
    answers = set()
    for priority in types_pb2.Priority.values():
        request = embed_request(PNG, texts=("a dog",))
        request.options.priority = priority
        reply = await shared.stub.Embed(request)
        answers.add(tuple(tuple(result.sparse.indices) for result in reply.results))
    assert len(answers) == 1
