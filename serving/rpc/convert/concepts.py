"""Between the messages of ConceptService and the server's types. Requests are validated here."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable

from bundle.concepts import ConceptEvidence, NamedConcept
from bundle.text import EMPTY, is_blank
from serving.core.errors import ErrorKind, invalid
from serving.core.limits import LimitsConfig
from serving.core.requests import ConceptRef, ExplainCall, ListConceptsCall, ModelId, find_concept
from serving.models.explain import ConceptSearch, ImageExplanation
from serving.models.loaded_model import ServedModel
from serving.rpc.convert import coverage as convert_coverage
from serving.rpc.convert import embedding as convert
from sparseclip.v1 import concepts_pb2

_PAGE_TOKEN = re.compile(r"([0-9]{1,10})\.([0-9a-f]{16})")
_PAGE_DEFAULT, _PAGE_MAX = 100, 1_000
_SEARCH_DEFAULT, _SEARCH_MAX = 10, 100
_EXPLAIN_DEFAULT, _EXPLAIN_MAX = 5, 32


def concept(entry: NamedConcept) -> concepts_pb2.Concept:
    """A concept with its evidence."""
    return concepts_pb2.Concept(
        concept_id=entry.id,
        name=entry.name,
        aliases=entry.aliases,
        frequency=entry.frequency,
        clarity=entry.clarity,
        modality=math.nan if entry.modality is None else entry.modality,
        words=_evidence(entry.words),
        images=_evidence(entry.images),
        active=entry.active,
        name_confidence=entry.name_confidence,
        hub=entry.hub,
    )


def _evidence(entries: Iterable[ConceptEvidence]) -> list[concepts_pb2.Evidence]:
    return [concepts_pb2.Evidence(source=e.source, value=e.value) for e in entries]


def list_call(request: concepts_pb2.ListConceptsRequest) -> ListConceptsCall:
    """A validated call. Raises ServingError naming the field."""
    if request.page_size > _PAGE_MAX:
        raise invalid("page_size", f"must be at most {_PAGE_MAX}")
    match = _PAGE_TOKEN.fullmatch(request.page_token)
    if request.page_token and match is None:
        raise invalid("page_token", "does not come from a response")
    return ListConceptsCall(
        start=int(match[1]) if match else 0,
        listing=match[2] if match else None,
        size=request.page_size or _PAGE_DEFAULT,
        active_only=request.active_only,
    )


def list_response(model: ServedModel, call: ListConceptsCall) -> concepts_pb2.ListConceptsResponse:
    """The concepts of a page; its token is the id at which the next one starts, and the listing.

    Raises ServingError for a token of another version or of another filter, because pages of two
    listings together would repeat concepts, or leave some out.
    """
    listing = _listing(model.id, call.active_only)
    if call.listing not in (None, listing):
        raise invalid("page_token", "is of another version, or of another active_only: begin anew")
    listed = [c for c in model.concepts.concepts if c.active or not call.active_only]
    rest = [c for c in listed if c.id >= call.start]
    return concepts_pb2.ListConceptsResponse(
        model=convert.model_version(model.id),
        concepts=[concept(entry) for entry in rest[: call.size]],
        next_page_token=f"{rest[call.size].id}.{listing}" if len(rest) > call.size else "",
        total=len(listed),
    )


def _listing(model: ModelId, active_only: bool) -> str:
    """Stands for one version's list of concepts."""
    text = f"{model.name}/{model.version}/{active_only}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def get_response(model: ServedModel, ref: ConceptRef) -> concepts_pb2.GetConceptResponse:
    """The concept that is asked for. Raises ServingError: NOT_FOUND when there is none."""
    entry = find_concept(model.concepts, ref, "concept", kind=ErrorKind.NOT_FOUND)
    return concepts_pb2.GetConceptResponse(
        model=convert.model_version(model.id), concept=concept(entry)
    )


def search_query(
    request: concepts_pb2.SearchConceptsRequest, limits: LimitsConfig
) -> tuple[str, int]:
    """The query and how many matches. Raises ServingError naming the field."""
    if is_blank(request.query):
        raise invalid("query", EMPTY)
    if len(request.query.encode()) > limits.text_bytes:
        raise invalid("query", f"more than {limits.text_bytes} bytes")
    if request.limit > _SEARCH_MAX:
        raise invalid("limit", f"must be at most {_SEARCH_MAX}")
    return request.query, request.limit or _SEARCH_DEFAULT


def search_response(
    model: ServedModel, search: ConceptSearch
) -> concepts_pb2.SearchConceptsResponse:
    """Matches, best first."""
    return concepts_pb2.SearchConceptsResponse(
        model=convert.model_version(model.id),
        matches=[
            concepts_pb2.ConceptMatch(
                concept=concept(match.concept),
                activation=match.activation,
                name_match=match.name_match,
            )
            for match in search.matches
        ],
        coverage=convert_coverage.coverage(search.coverage),
    )


def explain_call(request: concepts_pb2.ExplainImageRequest, limits: LimitsConfig) -> ExplainCall:
    """A validated call. Raises ServingError naming the field."""
    if not request.image:
        raise invalid("image", "must not be empty")
    if not request.concepts and request.top_concepts > _EXPLAIN_MAX:
        raise invalid("top_concepts", f"must be at most {_EXPLAIN_MAX}")
    if len(request.concepts) > _EXPLAIN_MAX:
        raise invalid("concepts", f"more than {_EXPLAIN_MAX}")
    return ExplainCall(
        selector=convert.selector(request.model),
        image=request.image,
        concepts=convert.concept_refs(request.concepts, limits, "concepts"),
        top=request.top_concepts or _EXPLAIN_DEFAULT,
        overlay=request.overlay,
        framing=convert_coverage.framing(request.framing),
        captions=convert_coverage.caption_count(request.captions, "captions"),
    )


def explain_response(
    model: ServedModel, explanation: ImageExplanation, total_s: float
) -> concepts_pb2.ExplainImageResponse:
    """The maps of an image, with the model's grid of patches."""
    rows, columns = model.architecture.grid
    response = concepts_pb2.ExplainImageResponse(
        model=convert.model_version(model.id),
        rows=rows,
        columns=columns,
        timings=convert.timings(explanation.times, total_s),
        coverage=convert_coverage.coverage(explanation.coverage),
        captions=convert_coverage.captions(explanation.captions),
    )
    for entry in explanation.maps:
        response.explanations.add(
            concept=convert.scored([(entry.concept_id, entry.value)], model.concepts)[0],
            values=entry.values.tolist(),
            exact=explanation.exact,
            overlay_png=entry.overlay_png,
        )
    return response
