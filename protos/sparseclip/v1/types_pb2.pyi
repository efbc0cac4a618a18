from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFraming(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FRAMING_UNSPECIFIED: _ClassVar[ImageFraming]
    IMAGE_FRAMING_CROP: _ClassVar[ImageFraming]
    IMAGE_FRAMING_PAD: _ClassVar[ImageFraming]

class ImageInterpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_INTERPOLATION_UNSPECIFIED: _ClassVar[ImageInterpolation]
    IMAGE_INTERPOLATION_BICUBIC: _ClassVar[ImageInterpolation]
    IMAGE_INTERPOLATION_BILINEAR: _ClassVar[ImageInterpolation]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]
IMAGE_FRAMING_UNSPECIFIED: ImageFraming
IMAGE_FRAMING_CROP: ImageFraming
IMAGE_FRAMING_PAD: ImageFraming
IMAGE_INTERPOLATION_UNSPECIFIED: ImageInterpolation
IMAGE_INTERPOLATION_BICUBIC: ImageInterpolation
IMAGE_INTERPOLATION_BILINEAR: ImageInterpolation
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority

class SparseVector(_message.Message):
    __slots__ = ("indices", "values", "norm")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    norm: float
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ..., norm: _Optional[float] = ...) -> None: ...

class ScoredConcept(_message.Message):
    __slots__ = ("concept_id", "name", "value", "name_confidence", "hub")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    HUB_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    name: str
    value: float
    name_confidence: float
    hub: bool
    def __init__(self, concept_id: _Optional[int] = ..., name: _Optional[str] = ..., value: _Optional[float] = ..., name_confidence: _Optional[float] = ..., hub: _Optional[bool] = ...) -> None: ...

class ScoredCaption(_message.Message):
    __slots__ = ("text", "similarity")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    text: str
    similarity: float
    def __init__(self, text: _Optional[str] = ..., similarity: _Optional[float] = ...) -> None: ...

class InputOptions(_message.Message):
    __slots__ = ("framing", "refuse_long_texts", "priority")
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    REFUSE_LONG_TEXTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    framing: ImageFraming
    refuse_long_texts: bool
    priority: Priority
    def __init__(self, framing: _Optional[_Union[ImageFraming, str]] = ..., refuse_long_texts: _Optional[bool] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("tokens", "truncated", "unknown_words", "framing", "image_share", "ground", "frames")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHARE_FIELD_NUMBER: _ClassVar[int]
    GROUND_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    truncated: bool
    unknown_words: _containers.RepeatedScalarFieldContainer[str]
    framing: ImageFraming
    image_share: float
    ground: int
    frames: int
    def __init__(self, tokens: _Optional[int] = ..., truncated: _Optional[bool] = ..., unknown_words: _Optional[_Iterable[str]] = ..., framing: _Optional[_Union[ImageFraming, str]] = ..., image_share: _Optional[float] = ..., ground: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("decode_us", "queue_us", "inference_us", "total_us")
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    decode_us: int
    queue_us: int
    inference_us: int
    total_us: int
    def __init__(self, decode_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., inference_us: _Optional[int] = ..., total_us: _Optional[int] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ModelSelector(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ConceptRef(_message.Message):
    __slots__ = ("concept_id", "name")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    name: str
    def __init__(self, concept_id: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...
