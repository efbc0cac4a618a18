from google.rpc import status_pb2 as _status_pb2
from sparseclip.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_SPARSE: _ClassVar[ModelKind]
    MODEL_KIND_DENSE: _ClassVar[ModelKind]

class Score(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_UNSPECIFIED: _ClassVar[Score]
    SCORE_SOFTMAX: _ClassVar[Score]
    SCORE_SIGMOID: _ClassVar[Score]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_SPARSE: ModelKind
MODEL_KIND_DENSE: ModelKind
SCORE_UNSPECIFIED: Score
SCORE_SOFTMAX: Score
SCORE_SIGMOID: Score

class EmbedInput(_message.Message):
    __slots__ = ("id", "image", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    image: bytes
    text: str
    def __init__(self, id: _Optional[str] = ..., image: _Optional[bytes] = ..., text: _Optional[str] = ...) -> None: ...

class OutputSelection(_message.Message):
    __slots__ = ("sparse", "top_concepts", "dense", "patch_concepts", "captions")
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    TOP_CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    PATCH_CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    sparse: bool
    top_concepts: int
    dense: bool
    patch_concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.ConceptRef]
    captions: int
    def __init__(self, sparse: _Optional[bool] = ..., top_concepts: _Optional[int] = ..., dense: _Optional[bool] = ..., patch_concepts: _Optional[_Iterable[_Union[_types_pb2.ConceptRef, _Mapping]]] = ..., captions: _Optional[int] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("model", "inputs", "outputs", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    inputs: _containers.RepeatedCompositeFieldContainer[EmbedInput]
    outputs: OutputSelection
    options: _types_pb2.InputOptions
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[EmbedInput, _Mapping]]] = ..., outputs: _Optional[_Union[OutputSelection, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.InputOptions, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("model", "results", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    results: _containers.RepeatedCompositeFieldContainer[EmbedResult]
    timings: _types_pb2.StageTimings
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., results: _Optional[_Iterable[_Union[EmbedResult, _Mapping]]] = ..., timings: _Optional[_Union[_types_pb2.StageTimings, _Mapping]] = ...) -> None: ...

class EmbedResult(_message.Message):
    __slots__ = ("id", "status", "sparse", "concepts", "dense", "patches", "active", "timings", "coverage", "captions")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: _status_pb2.Status
    sparse: _types_pb2.SparseVector
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredConcept]
    dense: _containers.RepeatedScalarFieldContainer[float]
    patches: PatchCodes
    active: int
    timings: _types_pb2.StageTimings
    coverage: _types_pb2.Coverage
    captions: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredCaption]
    def __init__(self, id: _Optional[str] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., sparse: _Optional[_Union[_types_pb2.SparseVector, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[_types_pb2.ScoredConcept, _Mapping]]] = ..., dense: _Optional[_Iterable[float]] = ..., patches: _Optional[_Union[PatchCodes, _Mapping]] = ..., active: _Optional[int] = ..., timings: _Optional[_Union[_types_pb2.StageTimings, _Mapping]] = ..., coverage: _Optional[_Union[_types_pb2.Coverage, _Mapping]] = ..., captions: _Optional[_Iterable[_Union[_types_pb2.ScoredCaption, _Mapping]]] = ...) -> None: ...

class PatchCodes(_message.Message):
    __slots__ = ("rows", "columns", "maps")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    maps: _containers.RepeatedCompositeFieldContainer[ConceptMap]
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., maps: _Optional[_Iterable[_Union[ConceptMap, _Mapping]]] = ...) -> None: ...

class ConceptMap(_message.Message):
    __slots__ = ("concept_id", "values")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, concept_id: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class EmbedStreamRequest(_message.Message):
    __slots__ = ("start", "input")
    START_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    start: EmbedStreamStart
    input: EmbedInput
    def __init__(self, start: _Optional[_Union[EmbedStreamStart, _Mapping]] = ..., input: _Optional[_Union[EmbedInput, _Mapping]] = ...) -> None: ...

class EmbedStreamStart(_message.Message):
    __slots__ = ("model", "outputs", "options")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    outputs: OutputSelection
    options: _types_pb2.InputOptions
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., outputs: _Optional[_Union[OutputSelection, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.InputOptions, _Mapping]] = ...) -> None: ...

class EmbedStreamResponse(_message.Message):
    __slots__ = ("model", "result")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    result: EmbedResult
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., result: _Optional[_Union[EmbedResult, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "concepts", "dense_dim", "image_size", "patch_rows", "patch_columns", "context_length", "logit_scale", "limits", "text_dense_dim", "framings", "interpolation", "kind", "score", "logit_bias")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    DENSE_DIM_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    PATCH_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TEXT_DENSE_DIM_FIELD_NUMBER: _ClassVar[int]
    FRAMINGS_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    concepts: int
    dense_dim: int
    image_size: int
    patch_rows: int
    patch_columns: int
    context_length: int
    logit_scale: float
    limits: Limits
    text_dense_dim: int
    framings: _containers.RepeatedScalarFieldContainer[_types_pb2.ImageFraming]
    interpolation: _types_pb2.ImageInterpolation
    kind: ModelKind
    score: Score
    logit_bias: float
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., concepts: _Optional[int] = ..., dense_dim: _Optional[int] = ..., image_size: _Optional[int] = ..., patch_rows: _Optional[int] = ..., patch_columns: _Optional[int] = ..., context_length: _Optional[int] = ..., logit_scale: _Optional[float] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., text_dense_dim: _Optional[int] = ..., framings: _Optional[_Iterable[_Union[_types_pb2.ImageFraming, str]]] = ..., interpolation: _Optional[_Union[_types_pb2.ImageInterpolation, str]] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., score: _Optional[_Union[Score, str]] = ..., logit_bias: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("message_bytes", "image_bytes", "image_pixels", "image_side", "images_per_call", "texts_per_call", "text_bytes", "max_deadline_seconds")
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIDE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PER_CALL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_PER_CALL_FIELD_NUMBER: _ClassVar[int]
    TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    message_bytes: int
    image_bytes: int
    image_pixels: int
    image_side: int
    images_per_call: int
    texts_per_call: int
    text_bytes: int
    max_deadline_seconds: int
    def __init__(self, message_bytes: _Optional[int] = ..., image_bytes: _Optional[int] = ..., image_pixels: _Optional[int] = ..., image_side: _Optional[int] = ..., images_per_call: _Optional[int] = ..., texts_per_call: _Optional[int] = ..., text_bytes: _Optional[int] = ..., max_deadline_seconds: _Optional[int] = ...) -> None: ...
