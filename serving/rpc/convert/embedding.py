"""Between the messages of EmbeddingService and the server's types. Requests are validated here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bundle.architecture import Score
from bundle.concepts import ConceptVocabulary
from bundle.text import EMPTY, is_blank
from serving.batching.item_results import ItemResult, StageTimes, slowest
from serving.core.errors import ServingError, invalid
from serving.core.limits import LimitsConfig
from serving.core.requests import (
    ConceptRef,
    EmbedCall,
    EmbedItem,
    ImageItem,
    InputOptions,
    ModelId,
    ModelSelector,
    OutputSelection,
    TextItem,
    find_concept,
)
from serving.models.loaded_model import ServedModel
from serving.rpc.convert import coverage
from serving.rpc.error_to_status import to_status
from sparseclip.v1 import embedding_pb2, types_pb2

_SCORES: dict[Score, embedding_pb2.Score] = {
    "softmax": embedding_pb2.SCORE_SOFTMAX,
    "sigmoid": embedding_pb2.SCORE_SIGMOID,
}


def selector(message: types_pb2.ModelSelector) -> ModelSelector:
    """Which model a call names."""
    return ModelSelector(name=message.name, version=message.version)


def embed_call(request: embedding_pb2.EmbedRequest, limits: LimitsConfig) -> EmbedCall:
    """A validated call. Raises ServingError naming the field."""
    if not request.inputs:
        raise invalid("inputs", "at least one is needed")
    if len(request.inputs) > limits.images_per_call + limits.texts_per_call:
        raise invalid("inputs", "too many")
    options = coverage.input_options(request.options)
    items = tuple(
        embed_item(message, options, limits, f"inputs[{i}]")
        for i, message in enumerate(request.inputs)
    )
    images = sum(isinstance(entry, ImageItem) for entry in items)
    if images > limits.images_per_call:
        raise invalid("inputs", f"more than {limits.images_per_call} images")
    if len(items) - images > limits.texts_per_call:
        raise invalid("inputs", f"more than {limits.texts_per_call} texts")
    ids: set[str] = set()
    for i, entry in enumerate(items):
        if entry.id in ids:
            raise invalid(f"inputs[{i}].id", "appears twice")
        if entry.id:
            ids.add(entry.id)
    return EmbedCall(
        selector=selector(request.model),
        items=items,
        outputs=outputs(request.outputs, limits),
        options=options,
    )


def stream_start(
    message: embedding_pb2.EmbedStreamRequest | None, limits: LimitsConfig
) -> tuple[ModelSelector, OutputSelection, InputOptions]:
    """A stream's first message. Raises ServingError naming the field."""
    if message is None or message.WhichOneof("message") != "start":
        raise invalid("start", "a stream begins with it")
    start = message.start
    return (
        selector(start.model),
        outputs(start.outputs, limits),
        coverage.input_options(start.options),
    )


def embed_item(
    message: embedding_pb2.EmbedInput, options: InputOptions, limits: LimitsConfig, at: str
) -> EmbedItem:
    """One input. Its size is checked later, so that an item that is too large fails alone.

    Raises ServingError naming the field.
    """
    if len(message.id.encode()) > limits.id_bytes:
        raise invalid(f"{at}.id", f"more than {limits.id_bytes} bytes")
    match message.WhichOneof("content"):
        case "image":
            return ImageItem(id=message.id, data=message.image, framing=options.framing)
        case "text":
            refuse_long = options.refuse_long_texts
            return TextItem(id=message.id, text=message.text, refuse_long=refuse_long)
    raise invalid(f"{at}.content", "an image or a text is needed")


def outputs(message: embedding_pb2.OutputSelection, limits: LimitsConfig) -> OutputSelection:
    """What to send. Raises ServingError naming the field."""
    if message.top_concepts > limits.top_concepts:
        raise invalid("outputs.top_concepts", f"must be at most {limits.top_concepts}")
    refs = concept_refs(message.patch_concepts, limits, "outputs.patch_concepts")
    captions = coverage.caption_count(message.captions, "outputs.captions")
    return OutputSelection(
        sparse=message.sparse,
        top_concepts=message.top_concepts,
        dense=message.dense,
        patch_concepts=refs,
        captions=captions,
    )


def concept_refs(
    messages: Sequence[types_pb2.ConceptRef], limits: LimitsConfig, at: str
) -> tuple[ConceptRef, ...]:
    """Concepts by id or name. Raises ServingError naming the field."""
    if len(messages) > limits.patch_concepts:
        raise invalid(at, f"more than {limits.patch_concepts}")
    return tuple(concept_ref(message, f"{at}[{i}]") for i, message in enumerate(messages))


def concept_ref(message: types_pb2.ConceptRef, at: str) -> ConceptRef:
    """A concept by id or name. Raises ServingError naming the field."""
    match message.WhichOneof("ref"):
        case "concept_id":
            return message.concept_id
        case "name":
            if is_blank(message.name):
                raise invalid(f"{at}.name", EMPTY)
            return message.name
    raise invalid(at, "a concept_id or a name is needed")


def patch_ids(selection: OutputSelection, model: ServedModel) -> list[int]:
    """Ids of the concepts whose maps to send. Raises ServingError naming the field."""
    return [
        find_concept(model.concepts, ref, f"outputs.patch_concepts[{i}]").id
        for i, ref in enumerate(selection.patch_concepts)
    ]


def model_version(model: ModelId) -> types_pb2.ModelVersion:
    """The model that answers."""
    return types_pb2.ModelVersion(name=model.name, version=model.version)


def timings(times: StageTimes, total_s: float = 0.0) -> types_pb2.StageTimings:
    """Times of stages, in microseconds."""
    return types_pb2.StageTimings(
        decode_us=round(times.decode_s * 1e6),
        queue_us=round(times.queue_s * 1e6),
        inference_us=round(times.inference_s * 1e6),
        total_us=round(total_s * 1e6),
    )


def embed_response(
    call: EmbedCall,
    results: Sequence[ItemResult],
    outputs: OutputSelection,
    patch_ids: Sequence[int],
    model: ServedModel,
    total_s: float,
) -> embedding_pb2.EmbedResponse:
    """The reply of a unary call."""
    return embedding_pb2.EmbedResponse(
        model=model_version(model.id),
        results=[
            embed_result(item, result, outputs, patch_ids, model)
            for item, result in zip(call.items, results, strict=True)
        ],
        timings=timings(slowest(results), total_s),
    )


def embed_result(
    item: EmbedItem,
    result: ItemResult,
    outputs: OutputSelection,
    patch_ids: Sequence[int],
    model: ServedModel,
) -> embedding_pb2.EmbedResult:
    """One item's answer with the selected outputs, or its error."""
    if isinstance(result, ServingError):
        return embedding_pb2.EmbedResult(id=item.id, status=to_status(result))
    row = result.row
    message = embedding_pb2.EmbedResult(
        id=item.id,
        active=row.active or 0,
        timings=timings(result.times),
        coverage=coverage.coverage(result.coverage),
    )
    if outputs.sparse:
        message.sparse.norm = row.norm
        message.sparse.indices.extend(row.indices.tolist())
        message.sparse.values.extend(row.values.tolist())
    if outputs.top_concepts:
        message.concepts.extend(scored(row.top(outputs.top_concepts), model.concepts))
    if outputs.dense:
        message.dense.extend(row.dense.tolist())
    if row.patches is not None:
        message.patches.rows, message.patches.columns = model.architecture.grid
        for concept_id in patch_ids:
            message.patches.maps.add(
                concept_id=concept_id, values=row.patches.map(concept_id).tolist()
            )
    if outputs.captions and isinstance(item, ImageItem):
        message.captions.extend(coverage.captions(model.nearest_captions(row, outputs.captions)))
    return message


def scored(
    concepts: Iterable[tuple[int, float]], vocabulary: ConceptVocabulary
) -> list[types_pb2.ScoredConcept]:
    """Concept ids and values with their names."""
    return [
        types_pb2.ScoredConcept(
            concept_id=i,
            name=vocabulary[i].name,
            value=value,
            name_confidence=vocabulary[i].name_confidence,
            hub=vocabulary[i].hub,
        )
        for i, value in concepts
    ]


def model_response(model: ServedModel, limits: LimitsConfig) -> embedding_pb2.GetModelResponse:
    """A model's shapes and the limits of this server."""
    architecture = model.architecture
    # Nobody asks a dense model for its patches.
    rows, columns = architecture.grid if architecture.is_sparse else (0, 0)
    return embedding_pb2.GetModelResponse(
        model=model_version(model.id),
        concepts=architecture.concepts,
        dense_dim=architecture.dense_dim if architecture.dense else 0,
        text_dense_dim=architecture.text_dense_dim if architecture.dense else 0,
        image_size=model.preprocessing.size,
        patch_rows=rows,
        patch_columns=columns,
        context_length=architecture.context_length,
        logit_scale=architecture.logit_scale,
        logit_bias=architecture.logit_bias,
        score=_SCORES[architecture.score],
        kind=(
            embedding_pb2.MODEL_KIND_SPARSE
            if architecture.is_sparse
            else embedding_pb2.MODEL_KIND_DENSE
        ),
        framings=[coverage.FRAMING_NUMBERS[name] for name in model.framings],
        interpolation=coverage.INTERPOLATIONS[model.preprocessing.interpolation],
        limits=embedding_pb2.Limits(
            message_bytes=limits.message_bytes,
            image_bytes=limits.image_bytes,
            image_pixels=limits.image_pixels,
            image_side=limits.image_side,
            images_per_call=limits.images_per_call,
            texts_per_call=limits.texts_per_call,
            text_bytes=limits.text_bytes,
            max_deadline_seconds=int(limits.max_deadline_s),
        ),
    )
