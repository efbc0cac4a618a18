"""Messages of ConceptService and the server's types: pages, lookups, bounds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bundle.concepts import ConceptVocabulary
from serving.batching.item_results import StageTimes
from serving.core.errors import ErrorKind, ServingError
from serving.core.limits import LimitsConfig
from serving.core.requests import ModelId
from serving.models.explain import ConceptMap, ImageExplanation
from serving.rpc.convert import concepts as convert
from sparseclip.v1 import concepts_pb2, types_pb2
from tests.support.tiny_model import tiny_concepts

MODEL: Any = SimpleNamespace(
    id=ModelId(name="tiny", version="1"),
    concepts=ConceptVocabulary(tuple(tiny_concepts())),
    architecture=SimpleNamespace(grid=(1, 2)),
)
LIMITS = LimitsConfig(text_bytes=8)


def listed(**request: Any) -> concepts_pb2.ListConceptsResponse:
    call = convert.list_call(concepts_pb2.ListConceptsRequest(**request))
    return convert.list_response(MODEL, call)


def test_pages_hold_every_active_concept_once() -> None:
    ids: list[int] = []
    token = ""
    while True:
        page = listed(page_size=100, page_token=token, active_only=True)
        ids += [concept.concept_id for concept in page.concepts]
        token = page.next_page_token
        if not token:
            break
    assert ids == [concept.id for concept in MODEL.concepts.concepts if concept.active]
    assert page.total == len(ids)
    assert len(listed().concepts) == 100


def test_a_page_token_belongs_to_its_version_and_its_filter() -> None:
    token = listed(page_size=10).next_page_token
    assert [c.concept_id for c in listed(page_size=2, page_token=token).concepts] == [10, 11]
    other = SimpleNamespace(**{**vars(MODEL), "id": ModelId(name="tiny", version="2")})
    call = convert.list_call(concepts_pb2.ListConceptsRequest(page_token=token))
    for page in (
        lambda: convert.list_response(other, call),  # type: ignore[arg-type]
        lambda: listed(page_token=token, active_only=True),
    ):
        with pytest.raises(ServingError, match="of another version") as caught:
            page()
        assert caught.value.field == "page_token"


@pytest.mark.parametrize("token", ["-1", "1.5", "٣", "9" * 11, "x"])
def test_a_page_token_of_nobody_is_refused(token: str) -> None:
    with pytest.raises(ServingError) as caught:
        listed(page_token=token)
    assert caught.value.field == "page_token"


def test_a_concept_that_is_asked_for_and_does_not_exist_is_not_found() -> None:
    assert convert.get_response(MODEL, 5) == convert.get_response(MODEL, "dog")
    for ref in ("no such concept", 256):
        with pytest.raises(ServingError) as caught:
            convert.get_response(MODEL, ref)
        assert (caught.value.kind, caught.value.field) == (ErrorKind.NOT_FOUND, "concept")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"query": " "}, "query"),
        ({"query": "a" * 9}, "query"),
        ({"query": "a", "limit": 101}, "limit"),
    ],
)
def test_a_search_that_breaks_a_bound_names_the_field(request_: Any, field: str) -> None:
    with pytest.raises(ServingError) as caught:
        convert.search_query(concepts_pb2.SearchConceptsRequest(**request_), LIMITS)
    assert caught.value.field == field


def test_an_explanation_asks_for_named_concepts_or_the_strongest() -> None:
    dog = types_pb2.ConceptRef(name="dog")
    seventh = types_pb2.ConceptRef(concept_id=7)
    request = concepts_pb2.ExplainImageRequest(image=b"x", concepts=[dog, seventh], overlay=True)
    call = convert.explain_call(request, LIMITS)
    assert (call.concepts, call.overlay) == (("dog", 7), True)
    assert convert.explain_call(concepts_pb2.ExplainImageRequest(image=b"x"), LIMITS).top == 5
    for bad, field in (
        (concepts_pb2.ExplainImageRequest(), "image"),
        (concepts_pb2.ExplainImageRequest(image=b"x", top_concepts=33), "top_concepts"),
        (concepts_pb2.ExplainImageRequest(image=b"x", concepts=[dog] * 33), "concepts"),
        (
            concepts_pb2.ExplainImageRequest(image=b"x", concepts=[dog, types_pb2.ConceptRef()]),
            "concepts[1]",
        ),
    ):
        with pytest.raises(ServingError) as caught:
            convert.explain_call(bad, LIMITS)
        assert caught.value.field == field


def test_an_explanation_names_its_concepts_and_its_grid() -> None:
    values = np.array([0.5, 1.5], dtype=np.float32)
    entry = ConceptMap(concept_id=5, value=1.0, values=values, overlay_png=b"png")
    explanation = ImageExplanation(maps=(entry,), exact=True, times=StageTimes(queue_s=0.5))
    response = convert.explain_response(MODEL, explanation, 1.5)
    assert (response.rows, response.columns) == (1, 2)
    assert (response.timings.queue_us, response.timings.total_us) == (500_000, 1_500_000)
    [message] = response.explanations
    assert (message.concept.name, message.concept.value, message.exact) == ("dog", 1.0, True)
    assert (list(message.values), message.overlay_png) == ([0.5, 1.5], b"png")
