"""Between protobuf messages and the client's types. Pure functions, no calls."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import grpc
import numpy as np
from google.rpc.status_pb2 import Status

from sparseclip._arguments import concept_key
from sparseclip._items import Outputs
from sparseclip.concepts import Concept, ConceptExplanation, ConceptKey, Evidence, Explanation
from sparseclip.errors import CallError, ItemStatus, status_code
from sparseclip.model_info import ModelInfo, ServerLimits
from sparseclip.results import (
    Coverage,
    Embedding,
    FloatArray,
    ImageFraming,
    ModelVersion,
    PatchMap,
    Priority,
    ScoredCaption,
    ScoredConcept,
    Timings,
)
from sparseclip.server_status import ModelState, ModelStatus, ServerStatus
from sparseclip.v1 import admin_pb2, concepts_pb2, embedding_pb2, types_pb2


def outputs_to_proto(outputs: Outputs, info: ModelInfo) -> embedding_pb2.OutputSelection:
    """What to ask of the model that `info` describes. Raises CallError for a patch concept that is
    no id."""
    sparse = outputs.sparse
    if sparse is None:
        # A selection of nothing: the server knows best what its current model is for.
        is_code = outputs.dense and info.kind == "sparse"
        sparse = is_code or bool(outputs.top_concepts or outputs.patch_concepts or outputs.captions)
    return embedding_pb2.OutputSelection(
        sparse=sparse,
        top_concepts=outputs.top_concepts,
        dense=outputs.dense,
        patch_concepts=[concept_key_to_proto(key) for key in outputs.patch_concepts],
        captions=outputs.captions,
    )


_FRAMINGS: dict[ImageFraming, types_pb2.ImageFraming] = {
    "crop": types_pb2.IMAGE_FRAMING_CROP,
    "pad": types_pb2.IMAGE_FRAMING_PAD,
}
_INTERPOLATIONS: dict[int, Literal["bicubic", "bilinear"]] = {
    types_pb2.IMAGE_INTERPOLATION_BICUBIC: "bicubic",
    types_pb2.IMAGE_INTERPOLATION_BILINEAR: "bilinear",
}
_FRAMING_NAMES: dict[int, ImageFraming] = {number: name for name, number in _FRAMINGS.items()}


def framing_to_proto(framing: ImageFraming | None) -> types_pb2.ImageFraming:
    """Raises CallError for another word than a framing's."""
    if framing is None:
        return types_pb2.IMAGE_FRAMING_UNSPECIFIED
    if framing not in _FRAMINGS:
        raise CallError(
            grpc.StatusCode.INVALID_ARGUMENT, f"framing: must be {' or '.join(_FRAMINGS)}"
        )
    return _FRAMINGS[framing]


_PRIORITIES: dict[Priority, types_pb2.Priority] = {
    "interactive": types_pb2.PRIORITY_INTERACTIVE,
    "bulk": types_pb2.PRIORITY_BULK,
}


def input_options_to_proto(
    framing: ImageFraming | None, refuse_long_texts: bool, priority: Priority | None = None
) -> types_pb2.InputOptions:
    """How inputs are read, and when. Raises CallError for another word than a framing's or a
    priority's."""
    if priority is not None and priority not in _PRIORITIES:
        raise CallError(
            grpc.StatusCode.INVALID_ARGUMENT, f"priority: must be {' or '.join(_PRIORITIES)}"
        )
    return types_pb2.InputOptions(
        framing=framing_to_proto(framing),
        refuse_long_texts=refuse_long_texts,
        priority=_PRIORITIES[priority] if priority else types_pb2.PRIORITY_UNSPECIFIED,
    )


def coverage_from_proto(message: types_pb2.Coverage) -> Coverage:
    """What the model read. A framing that this client does not know counts as none."""
    return Coverage(
        tokens=message.tokens,
        truncated=message.truncated,
        unknown_words=tuple(message.unknown_words),
        framing=_FRAMING_NAMES.get(message.framing),
        image_share=message.image_share,
        ground=f"#{message.ground & 0xFFFFFF:06x}" if message.HasField("ground") else None,
        frames=message.frames,
    )


def captions_from_proto(messages: Iterable[types_pb2.ScoredCaption]) -> tuple[ScoredCaption, ...]:
    """Captions, best first."""
    return tuple(ScoredCaption(text=entry.text, similarity=entry.similarity) for entry in messages)


def concept_key_to_proto(key: ConceptKey) -> types_pb2.ConceptRef:
    """Raises CallError for a number that is no id, and TypeError."""
    try:
        checked = concept_key(key, "concept")
    except ValueError as error:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
    if isinstance(checked, str):
        return types_pb2.ConceptRef(name=checked)
    return types_pb2.ConceptRef(concept_id=checked)


def model_version_from_proto(message: types_pb2.ModelVersion) -> ModelVersion:
    """The name and the version of a model."""
    return ModelVersion(name=message.name, version=message.version)


def timings_from_proto(message: types_pb2.StageTimings) -> Timings:
    """Microseconds by stage."""
    return Timings(
        decode_us=message.decode_us,
        queue_us=message.queue_us,
        inference_us=message.inference_us,
        total_us=message.total_us,
    )


def scored_concept_from_proto(message: types_pb2.ScoredConcept) -> ScoredConcept:
    """A concept with its activation."""
    return ScoredConcept(
        concept_id=message.concept_id,
        name=message.name,
        value=message.value,
        name_confidence=message.name_confidence if message.HasField("name_confidence") else None,
        hub=message.hub,
    )


def item_status_from_proto(message: Status) -> ItemStatus:
    """How one item went. A code that this client does not know counts as UNKNOWN."""
    return ItemStatus(code=status_code(message.code), message=message.message)


def embedding_from_proto(
    message: embedding_pb2.EmbedResult, *, source: str, info: ModelInfo
) -> Embedding:
    """One item's answer. `info` describes the model that gave it.

    Raises CallError when a patch map does not fit its grid.
    """
    sparse, patches = message.sparse, message.patches
    dense = np.array(message.dense, dtype=np.float32) if message.dense else None
    return Embedding(
        source=source,
        status=item_status_from_proto(message.status),
        model=info.model,
        width=info.concepts,
        indices=np.array(sparse.indices, dtype=np.uint32),
        values=np.array(sparse.values, dtype=np.float32),
        norm=_norm(dense) if info.kind == "dense" else sparse.norm,
        active=message.active,
        concepts=tuple(scored_concept_from_proto(concept) for concept in message.concepts),
        dense=dense,
        patches=tuple(
            PatchMap(
                concept_id=entry.concept_id,
                values=_grid(entry.values, patches.rows, patches.columns),
            )
            for entry in patches.maps
        ),
        timings=timings_from_proto(message.timings),
        captions=captions_from_proto(message.captions),
        coverage=coverage_from_proto(message.coverage),
    )


def _norm(dense: FloatArray | None) -> float:
    """The L2 norm of a dense vector; 0 where there is none."""
    return 0.0 if dense is None else float(np.linalg.norm(dense))


def _grid(values: Sequence[float], rows: int, columns: int) -> FloatArray:
    """Values row by row as an array (rows, columns)."""
    if len(values) != rows * columns:
        raise CallError(grpc.StatusCode.INTERNAL, "the reply's patch map does not fit its grid")
    return np.array(values, dtype=np.float32).reshape(rows, columns)


def model_info_from_proto(message: embedding_pb2.GetModelResponse) -> ModelInfo:
    """A model's shapes and its server's limits."""
    limits = message.limits
    return ModelInfo(
        model=model_version_from_proto(message.model),
        concepts=message.concepts,
        dense_dim=message.dense_dim,
        text_dense_dim=message.text_dense_dim,
        image_size=message.image_size,
        patch_rows=message.patch_rows,
        patch_columns=message.patch_columns,
        context_length=message.context_length,
        logit_scale=message.logit_scale,
        limits=ServerLimits(
            message_bytes=limits.message_bytes,
            image_bytes=limits.image_bytes,
            image_pixels=limits.image_pixels,
            image_side=limits.image_side,
            images_per_call=limits.images_per_call,
            texts_per_call=limits.texts_per_call,
            text_bytes=limits.text_bytes,
            max_deadline_seconds=limits.max_deadline_seconds,
        ),
        framings=tuple(
            _FRAMING_NAMES[number] for number in message.framings if number in _FRAMING_NAMES
        ),
        interpolation=_INTERPOLATIONS.get(message.interpolation),
        kind="dense" if message.kind == embedding_pb2.MODEL_KIND_DENSE else "sparse",
        score="sigmoid" if message.score == embedding_pb2.SCORE_SIGMOID else "softmax",
        logit_bias=message.logit_bias,
    )


def concept_from_proto(message: concepts_pb2.Concept) -> Concept:
    """A concept with the evidence for its name."""
    return Concept(
        concept_id=message.concept_id,
        name=message.name,
        aliases=tuple(message.aliases),
        frequency=message.frequency,
        clarity=message.clarity if message.HasField("clarity") else None,
        modality=None if math.isnan(message.modality) else message.modality,
        words=_evidence(message.words),
        images=_evidence(message.images),
        active=message.active,
        name_confidence=message.name_confidence if message.HasField("name_confidence") else None,
        hub=message.hub,
    )


def _evidence(entries: Iterable[concepts_pb2.Evidence]) -> tuple[Evidence, ...]:
    return tuple(Evidence(source=entry.source, value=entry.value) for entry in entries)


def explanation_from_proto(
    message: concepts_pb2.ExplainImageResponse, *, source: str
) -> Explanation:
    """The maps of an image's concepts. Raises CallError when a map does not fit the grid."""
    return Explanation(
        source=source,
        model=model_version_from_proto(message.model),
        explanations=tuple(
            ConceptExplanation(
                concept=scored_concept_from_proto(entry.concept),
                values=_grid(entry.values, message.rows, message.columns),
                exact=entry.exact,
                overlay_png=entry.overlay_png,
            )
            for entry in message.explanations
        ),
        timings=timings_from_proto(message.timings),
        coverage=coverage_from_proto(message.coverage),
        captions=captions_from_proto(message.captions),
    )


def server_status_from_proto(message: admin_pb2.GetStatusResponse) -> ServerStatus:
    """A server's models and its load. A state that this client does not know is UNSPECIFIED."""
    known_values = {state.value for state in ModelState}
    return ServerStatus(
        models=tuple(
            ModelStatus(
                model=model_version_from_proto(entry.model),
                state=ModelState(entry.state if entry.state in known_values else 0),
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
