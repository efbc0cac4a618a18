"""ConceptService, against onnxruntime and the bundle themselves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from bundle.store import open_bundle
from sparseclip.v1 import (
    concepts_pb2,
    concepts_pb2_grpc,
    types_pb2,
)
from tests.serving.support.expected_outputs import direct
from tests.serving.support.running_server import (
    PNG,
    Running,
    refused,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def concepts(shared: Running) -> Any:
    return concepts_pb2_grpc.ConceptServiceStub(shared.channel)  # type: ignore[no-untyped-call]


async def test_list_concepts_pages(concepts: Any) -> None:
    seen, token = [], ""
    for _ in range(10):
        request = concepts_pb2.ListConceptsRequest(page_size=60, page_token=token)
        reply = await concepts.ListConcepts(request)
        assert reply.total == 256
        seen += [concept.concept_id for concept in reply.concepts]
        token = reply.next_page_token
        if not token:
            break
    assert seen == list(range(256))
    active = await concepts.ListConcepts(
        concepts_pb2.ListConceptsRequest(page_size=1000, active_only=True)
    )
    assert active.total == len(active.concepts) == sum(i % 7 != 6 for i in range(256))
    error = await refused(concepts.ListConcepts(concepts_pb2.ListConceptsRequest(page_token="x1")))
    assert [violation.field for violation in error.violations] == ["page_token"]


async def test_get_concept(concepts: Any) -> None:
    by_name = await concepts.GetConcept(
        concepts_pb2.GetConceptRequest(concept=types_pb2.ConceptRef(name="dog"))
    )
    by_id = await concepts.GetConcept(
        concepts_pb2.GetConceptRequest(concept=types_pb2.ConceptRef(concept_id=5))
    )
    assert by_name == by_id
    assert by_id.concept.aliases == ["dogs"]
    assert by_id.concept.words[0].source == "dog"
    assert by_id.concept.HasField("clarity")
    for ref in (types_pb2.ConceptRef(name="no"), types_pb2.ConceptRef(concept_id=256)):
        error = await refused(concepts.GetConcept(concepts_pb2.GetConceptRequest(concept=ref)))
        assert error.code is grpc.StatusCode.NOT_FOUND


async def test_search_by_name_and_by_the_text_tower(
    concepts: Any, shared: Running, tiny_bundle: Path
) -> None:
    reply = await concepts.SearchConcepts(concepts_pb2.SearchConceptsRequest(query="Dogs", limit=6))
    assert reply.matches[0].concept.name == "dog"
    assert reply.matches[0].name_match
    assert len(reply.matches) == 6
    rest = [match.activation for match in reply.matches[1:]]
    assert rest == sorted(rest, reverse=True)
    tokens = open_bundle(tiny_bundle).tokenizer.encode(["Dogs"])
    outputs = direct(tiny_bundle, "text", tokens)
    strongest = outputs["indices"][0][np.argsort(-outputs["values"][0])][:3]
    assert [m.concept.concept_id for m in reply.matches if m.activation][:3] == list(strongest)
    values = dict(zip(outputs["indices"][0].tolist(), outputs["values"][0].tolist(), strict=True))
    for limit in (1, 3, 6):  # a shorter list is the start of a longer one, with the same values
        request = concepts_pb2.SearchConceptsRequest(query="Dogs", limit=limit)
        shorter = (await concepts.SearchConcepts(request)).matches
        assert list(shorter) == list(reply.matches[:limit])
        for match in shorter:
            expected = values.get(match.concept.concept_id, 0.0)
            assert match.activation == pytest.approx(expected, abs=1e-5)
    error = await refused(concepts.SearchConcepts(concepts_pb2.SearchConceptsRequest(query=" ")))
    assert [violation.field for violation in error.violations] == ["query"]


async def test_explain_accounts_for_the_activation(concepts: Any) -> None:
    reply = await concepts.ExplainImage(
        concepts_pb2.ExplainImageRequest(image=PNG, top_concepts=3, overlay=True)
    )
    assert (reply.rows, reply.columns) == (4, 4)
    assert len(reply.explanations) == 3
    for entry in reply.explanations:
        assert len(entry.values) == 16
        if entry.exact:
            assert np.mean(entry.values) == pytest.approx(entry.concept.value, rel=1e-3, abs=1e-4)
        with Image.open(io.BytesIO(entry.overlay_png)) as overlay:
            assert overlay.format == "PNG"
            assert overlay.size == (336, 336)
            assert np.asarray(overlay).std() > 1
    assert reply.timings.total_us > 0
    named = await concepts.ExplainImage(
        concepts_pb2.ExplainImageRequest(image=PNG, concepts=[types_pb2.ConceptRef(name="dog")])
    )
    assert [entry.concept.name for entry in named.explanations] == ["dog"]
    assert named.explanations[0].overlay_png == b""
    bad = await refused(concepts.ExplainImage(concepts_pb2.ExplainImageRequest(image=b"<html>")))
    assert (bad.code, bad.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "image: unsupported image",
    )
