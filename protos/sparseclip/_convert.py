"""Between protobuf messages and the client's results. Pure functions, no calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from sparseclip import concepts, results
from sparseclip.errors import CallError, ItemStatus
from sparseclip.v1 import admin_pb2, concepts_pb2, embedding_pb2, types_pb2

ConceptKey = int | str
"""A concept by id or by its exact name."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to compute for every item."""

    sparse: bool = True
    """The sparse code: indices, values and norm."""
    top_concepts: int = 0
    """How many of the strongest concepts to name."""
    dense: bool = False
    """The dense vector that the sparse projection reads."""
    patch_concepts: tuple[ConceptKey, ...] = ()
    """The concepts whose map over an image's patches to send."""

    def to_proto(self) -> embedding_pb2.OutputSelection:
        """The message. Raises ValueError for a negative count or id."""
        if self.top_concepts < 0:
            raise ValueError("top_concepts: must not be negative")
        return embedding_pb2.OutputSelection(
            sparse=self.sparse,
            top_concepts=self.top_concepts,
            dense=self.dense,
            patch_concepts=[concept_ref(key) for key in self.patch_concepts],
        )


def concept_ref(key: ConceptKey) -> types_pb2.ConceptRef:
    """Names a concept by id or by name."""
    if isinstance(key, str):
        return types_pb2.ConceptRef(name=key)
    if not 0 <= key < 2**32:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, f"concept {key}: not an id")
    return types_pb2.ConceptRef(concept_id=key)


def model(message: types_pb2.ModelVersion) -> results.ModelVersion:
    """Name and version."""
    return results.ModelVersion(name=message.name, version=message.version)


def timings(message: types_pb2.StageTimings) -> results.Timings:
    """Microseconds by stage."""
    return results.Timings(
        decode_us=message.decode_us,
        queue_us=message.queue_us,
        inference_us=message.inference_us,
        total_us=message.total_us,
    )


def scored(message: types_pb2.ScoredConcept) -> results.ScoredConcept:
    """A concept with its value."""
    return results.ScoredConcept(
        concept_id=message.concept_id, name=message.name, value=message.value
    )


def embedding(
    message: embedding_pb2.EmbedResult, *, source: str, info: results.ModelInfo
) -> results.Embedding:
    """One item's answer; `info` describes the model that gave it."""
    sparse = message.sparse
    grid = (message.patches.rows, message.patches.columns)
    return results.Embedding(
        source=source,
        status=ItemStatus.from_proto(message.status),
        model=info.model,
        width=info.concepts,
        indices=np.array(sparse.indices, dtype=np.uint32),
        values=np.array(sparse.values, dtype=np.float32),
        norm=sparse.norm,
        active=message.active,
        concepts=tuple(scored(concept) for concept in message.concepts),
        dense=np.array(message.dense, dtype=np.float32) if message.dense else None,
        patches=tuple(
            results.PatchMap(
                concept_id=entry.concept_id, values=_grid(entry.values, grid[0], grid[1])
            )
            for entry in message.patches.maps
        ),
        timings=timings(message.timings),
    )


def _grid(values: Sequence[float], rows: int, columns: int) -> results.FloatArray:
    if len(values) != rows * columns:
        raise CallError(grpc.StatusCode.INTERNAL, "the reply's patch map does not fit its grid")
    return np.array(values, dtype=np.float32).reshape(rows, columns)


def model_info(message: embedding_pb2.GetModelResponse) -> results.ModelInfo:
    """A model's shapes and its server's limits."""
    limits = message.limits
    return results.ModelInfo(
        model=model(message.model),
        concepts=message.concepts,
        dense_dim=message.dense_dim,
        text_dense_dim=message.text_dense_dim,
        image_size=message.image_size,
        patch_rows=message.patch_rows,
        patch_columns=message.patch_columns,
        context_length=message.context_length,
        logit_scale=message.logit_scale,
        limits=results.ServerLimits(
            message_bytes=limits.message_bytes,
            image_bytes=limits.image_bytes,
            image_pixels=limits.image_pixels,
            image_side=limits.image_side,
            images_per_call=limits.images_per_call,
            texts_per_call=limits.texts_per_call,
            text_bytes=limits.text_bytes,
            max_deadline_seconds=limits.max_deadline_seconds,
        ),
    )


def _evidence(entries: Iterable[concepts_pb2.Evidence]) -> tuple[concepts.Evidence, ...]:
    return tuple(concepts.Evidence(source=e.source, value=e.value) for e in entries)


def concept(message: concepts_pb2.Concept) -> concepts.Concept:
    """A concept with its evidence."""
    return concepts.Concept(
        concept_id=message.concept_id,
        name=message.name,
        aliases=tuple(message.aliases),
        frequency=message.frequency,
        clarity=message.clarity if message.HasField("clarity") else None,
        modality=message.modality,
        words=_evidence(message.words),
        images=_evidence(message.images),
        active=message.active,
    )


def explanation(message: concepts_pb2.ExplainImageResponse, *, source: str) -> concepts.Explanation:
    """The maps of an image's concepts."""
    return concepts.Explanation(
        source=source,
        model=model(message.model),
        explanations=tuple(
            concepts.ConceptExplanation(
                concept=scored(entry.concept),
                values=_grid(entry.values, message.rows, message.columns),
                exact=entry.exact,
                overlay_png=entry.overlay_png,
            )
            for entry in message.explanations
        ),
        timings=timings(message.timings),
    )


def server_status(message: admin_pb2.GetStatusResponse) -> concepts.ServerStatus:
    """A server's models and its load."""
    known = {state.value for state in concepts.ModelState}
    return concepts.ServerStatus(
        models=tuple(
            concepts.ModelStatus(
                model=model(entry.model),
                state=concepts.ModelState(entry.state if entry.state in known else 0),
                is_default=entry.is_default,
                engine=entry.engine,
            )
            for entry in message.models
        ),
        queued_images=message.queued_images,
        queued_texts=message.queued_texts,
        calls_in_flight=message.calls_in_flight,
        uptime_seconds=message.uptime_seconds,
        server_version=message.server_version,
    )
