"""The handlers of ConceptService."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.core.limits import LimitsConfig
from serving.core.requests import ModelSelector
from serving.models.abilities import check_concepts
from serving.models.explain import explain_image, search_concepts
from serving.models.loaded_model import ServedModel
from serving.models.registry import Registry
from serving.rpc.call_context import RpcContext, current_call
from serving.rpc.convert import concepts as convert_concepts
from serving.rpc.convert import embedding as convert
from sparseclip.v1 import concepts_pb2, concepts_pb2_grpc


class ConceptService(concepts_pb2_grpc.ConceptServiceServicer):
    """What concepts mean, and where an image shows them."""

    def __init__(self, registry: Registry, limits: LimitsConfig) -> None:
        self._registry = registry
        self._limits = limits

    @contextmanager
    def _lease(self, selector: ModelSelector) -> Iterator[ServedModel]:
        """A model that has concepts. Raises ServingError."""
        with self._registry.lease(selector) as model:
            check_concepts(model.architecture)
            yield model

    async def ListConcepts(  # noqa: N802
        self, request: concepts_pb2.ListConceptsRequest, context: RpcContext
    ) -> concepts_pb2.ListConceptsResponse:
        """Concepts in order of their ids, one page per call."""
        page = convert_concepts.list_call(request)
        with self._lease(convert.selector(request.model)) as model:
            return convert_concepts.list_response(model, page)

    async def GetConcept(  # noqa: N802
        self, request: concepts_pb2.GetConceptRequest, context: RpcContext
    ) -> concepts_pb2.GetConceptResponse:
        """One concept by id or name."""
        ref = convert.concept_ref(request.concept, "concept")
        with self._lease(convert.selector(request.model)) as model:
            return convert_concepts.get_response(model, ref)

    async def SearchConcepts(  # noqa: N802
        self, request: concepts_pb2.SearchConceptsRequest, context: RpcContext
    ) -> concepts_pb2.SearchConceptsResponse:
        """Concepts for a word: by the text tower, and by name."""
        query, limit = convert_concepts.search_query(request, self._limits)
        with self._lease(convert.selector(request.model)) as model:
            search = await search_concepts(model, query, limit, current_call().deadline)
            return convert_concepts.search_response(model, search)

    async def ExplainImage(  # noqa: N802
        self, request: concepts_pb2.ExplainImageRequest, context: RpcContext
    ) -> concepts_pb2.ExplainImageResponse:
        """The maps of concepts over an image's patches."""
        explain = convert_concepts.explain_call(request, self._limits)
        call = current_call()
        with self._lease(explain.selector) as model:
            explanation = await explain_image(model, explain, call.deadline)
            return convert_concepts.explain_response(model, explanation, call.elapsed)
