from sparseclip.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Concept(_message.Message):
    __slots__ = ("concept_id", "name", "aliases", "frequency", "clarity", "modality", "words", "images", "active", "name_confidence", "hub")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    CLARITY_FIELD_NUMBER: _ClassVar[int]
    MODALITY_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    NAME_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    HUB_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    frequency: float
    clarity: float
    modality: float
    words: _containers.RepeatedCompositeFieldContainer[Evidence]
    images: _containers.RepeatedCompositeFieldContainer[Evidence]
    active: bool
    name_confidence: float
    hub: bool
    def __init__(self, concept_id: _Optional[int] = ..., name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., frequency: _Optional[float] = ..., clarity: _Optional[float] = ..., modality: _Optional[float] = ..., words: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., images: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., active: _Optional[bool] = ..., name_confidence: _Optional[float] = ..., hub: _Optional[bool] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("source", "value")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    source: str
    value: float
    def __init__(self, source: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class ListConceptsRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token", "active_only")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    page_size: int
    page_token: str
    active_only: bool
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., active_only: _Optional[bool] = ...) -> None: ...

class ListConceptsResponse(_message.Message):
    __slots__ = ("model", "concepts", "next_page_token", "total")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    concepts: _containers.RepeatedCompositeFieldContainer[Concept]
    next_page_token: str
    total: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[Concept, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total: _Optional[int] = ...) -> None: ...

class GetConceptRequest(_message.Message):
    __slots__ = ("model", "concept")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    concept: _types_pb2.ConceptRef
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., concept: _Optional[_Union[_types_pb2.ConceptRef, _Mapping]] = ...) -> None: ...

class GetConceptResponse(_message.Message):
    __slots__ = ("model", "concept")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    concept: Concept
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., concept: _Optional[_Union[Concept, _Mapping]] = ...) -> None: ...

class SearchConceptsRequest(_message.Message):
    __slots__ = ("model", "query", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    query: str
    limit: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., query: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class SearchConceptsResponse(_message.Message):
    __slots__ = ("model", "matches", "coverage")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    matches: _containers.RepeatedCompositeFieldContainer[ConceptMatch]
    coverage: _types_pb2.Coverage
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., matches: _Optional[_Iterable[_Union[ConceptMatch, _Mapping]]] = ..., coverage: _Optional[_Union[_types_pb2.Coverage, _Mapping]] = ...) -> None: ...

class ConceptMatch(_message.Message):
    __slots__ = ("concept", "activation", "name_match")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    NAME_MATCH_FIELD_NUMBER: _ClassVar[int]
    concept: Concept
    activation: float
    name_match: bool
    def __init__(self, concept: _Optional[_Union[Concept, _Mapping]] = ..., activation: _Optional[float] = ..., name_match: _Optional[bool] = ...) -> None: ...

class ExplainImageRequest(_message.Message):
    __slots__ = ("model", "image", "concepts", "top_concepts", "overlay", "framing", "captions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    TOP_CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    image: bytes
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.ConceptRef]
    top_concepts: int
    overlay: bool
    framing: _types_pb2.ImageFraming
    captions: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., image: _Optional[bytes] = ..., concepts: _Optional[_Iterable[_Union[_types_pb2.ConceptRef, _Mapping]]] = ..., top_concepts: _Optional[int] = ..., overlay: _Optional[bool] = ..., framing: _Optional[_Union[_types_pb2.ImageFraming, str]] = ..., captions: _Optional[int] = ...) -> None: ...

class ExplainImageResponse(_message.Message):
    __slots__ = ("model", "rows", "columns", "explanations", "timings", "coverage", "captions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    rows: int
    columns: int
    explanations: _containers.RepeatedCompositeFieldContainer[ConceptExplanation]
    timings: _types_pb2.StageTimings
    coverage: _types_pb2.Coverage
    captions: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredCaption]
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., explanations: _Optional[_Iterable[_Union[ConceptExplanation, _Mapping]]] = ..., timings: _Optional[_Union[_types_pb2.StageTimings, _Mapping]] = ..., coverage: _Optional[_Union[_types_pb2.Coverage, _Mapping]] = ..., captions: _Optional[_Iterable[_Union[_types_pb2.ScoredCaption, _Mapping]]] = ...) -> None: ...

class ConceptExplanation(_message.Message):
    __slots__ = ("concept", "values", "exact", "overlay_png")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_PNG_FIELD_NUMBER: _ClassVar[int]
    concept: _types_pb2.ScoredConcept
    values: _containers.RepeatedScalarFieldContainer[float]
    exact: bool
    overlay_png: bytes
    def __init__(self, concept: _Optional[_Union[_types_pb2.ScoredConcept, _Mapping]] = ..., values: _Optional[_Iterable[float]] = ..., exact: _Optional[bool] = ..., overlay_png: _Optional[bytes] = ...) -> None: ...
