from sparseclip.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAT_ROLE_UNSPECIFIED: _ClassVar[ChatRole]
    CHAT_ROLE_SYSTEM: _ClassVar[ChatRole]
    CHAT_ROLE_USER: _ClassVar[ChatRole]
    CHAT_ROLE_ASSISTANT: _ClassVar[ChatRole]

class SteeringOp(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEERING_OP_UNSPECIFIED: _ClassVar[SteeringOp]
    STEERING_OP_SET: _ClassVar[SteeringOp]
    STEERING_OP_ADD: _ClassVar[SteeringOp]
    STEERING_OP_SCALE: _ClassVar[SteeringOp]
    STEERING_OP_ABLATE: _ClassVar[SteeringOp]

class ChatFinish(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAT_FINISH_UNSPECIFIED: _ClassVar[ChatFinish]
    CHAT_FINISH_STOP: _ClassVar[ChatFinish]
    CHAT_FINISH_LENGTH: _ClassVar[ChatFinish]
CHAT_ROLE_UNSPECIFIED: ChatRole
CHAT_ROLE_SYSTEM: ChatRole
CHAT_ROLE_USER: ChatRole
CHAT_ROLE_ASSISTANT: ChatRole
STEERING_OP_UNSPECIFIED: SteeringOp
STEERING_OP_SET: SteeringOp
STEERING_OP_ADD: SteeringOp
STEERING_OP_SCALE: SteeringOp
STEERING_OP_ABLATE: SteeringOp
CHAT_FINISH_UNSPECIFIED: ChatFinish
CHAT_FINISH_STOP: ChatFinish
CHAT_FINISH_LENGTH: ChatFinish

class ChatRequest(_message.Message):
    __slots__ = ("model", "messages", "sampling")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelSelector
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    sampling: ChatSampling
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelSelector, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ..., sampling: _Optional[_Union[ChatSampling, _Mapping]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "text", "images")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    role: ChatRole
    text: str
    images: _containers.RepeatedCompositeFieldContainer[ChatImage]
    def __init__(self, role: _Optional[_Union[ChatRole, str]] = ..., text: _Optional[str] = ..., images: _Optional[_Iterable[_Union[ChatImage, _Mapping]]] = ...) -> None: ...

class ChatImage(_message.Message):
    __slots__ = ("data", "steering", "framing")
    DATA_FIELD_NUMBER: _ClassVar[int]
    STEERING_FIELD_NUMBER: _ClassVar[int]
    FRAMING_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    steering: SteeringPlan
    framing: _types_pb2.ImageFraming
    def __init__(self, data: _Optional[bytes] = ..., steering: _Optional[_Union[SteeringPlan, _Mapping]] = ..., framing: _Optional[_Union[_types_pb2.ImageFraming, str]] = ...) -> None: ...

class SteeringPlan(_message.Message):
    __slots__ = ("edits", "strength")
    EDITS_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[SteeringEdit]
    strength: float
    def __init__(self, edits: _Optional[_Iterable[_Union[SteeringEdit, _Mapping]]] = ..., strength: _Optional[float] = ...) -> None: ...

class SteeringEdit(_message.Message):
    __slots__ = ("concept_id", "concept_name", "phrase", "op", "value", "patches", "top")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_NAME_FIELD_NUMBER: _ClassVar[int]
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PATCHES_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    concept_name: str
    phrase: str
    op: SteeringOp
    value: float
    patches: _containers.RepeatedScalarFieldContainer[int]
    top: int
    def __init__(self, concept_id: _Optional[int] = ..., concept_name: _Optional[str] = ..., phrase: _Optional[str] = ..., op: _Optional[_Union[SteeringOp, str]] = ..., value: _Optional[float] = ..., patches: _Optional[_Iterable[int]] = ..., top: _Optional[int] = ...) -> None: ...

class ChatSampling(_message.Message):
    __slots__ = ("max_tokens", "temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ...) -> None: ...

class ChatResponse(_message.Message):
    __slots__ = ("start", "delta", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: ChatStart
    delta: ChatDelta
    end: ChatEnd
    def __init__(self, start: _Optional[_Union[ChatStart, _Mapping]] = ..., delta: _Optional[_Union[ChatDelta, _Mapping]] = ..., end: _Optional[_Union[ChatEnd, _Mapping]] = ...) -> None: ...

class ChatStart(_message.Message):
    __slots__ = ("model", "engine", "images", "phrases", "prompt_tokens", "context_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelVersion
    engine: str
    images: _containers.RepeatedCompositeFieldContainer[ImageConcepts]
    phrases: _containers.RepeatedCompositeFieldContainer[PhraseCoverage]
    prompt_tokens: int
    context_tokens: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelVersion, _Mapping]] = ..., engine: _Optional[str] = ..., images: _Optional[_Iterable[_Union[ImageConcepts, _Mapping]]] = ..., phrases: _Optional[_Iterable[_Union[PhraseCoverage, _Mapping]]] = ..., prompt_tokens: _Optional[int] = ..., context_tokens: _Optional[int] = ...) -> None: ...

class PhraseCoverage(_message.Message):
    __slots__ = ("phrase", "coverage")
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    phrase: str
    coverage: _types_pb2.Coverage
    def __init__(self, phrase: _Optional[str] = ..., coverage: _Optional[_Union[_types_pb2.Coverage, _Mapping]] = ...) -> None: ...

class ImageConcepts(_message.Message):
    __slots__ = ("before", "after", "edited", "edited_total", "coverage")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EDITED_FIELD_NUMBER: _ClassVar[int]
    EDITED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    before: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredConcept]
    after: _containers.RepeatedCompositeFieldContainer[_types_pb2.ScoredConcept]
    edited: _containers.RepeatedCompositeFieldContainer[EditedConcept]
    edited_total: int
    coverage: _types_pb2.Coverage
    def __init__(self, before: _Optional[_Iterable[_Union[_types_pb2.ScoredConcept, _Mapping]]] = ..., after: _Optional[_Iterable[_Union[_types_pb2.ScoredConcept, _Mapping]]] = ..., edited: _Optional[_Iterable[_Union[EditedConcept, _Mapping]]] = ..., edited_total: _Optional[int] = ..., coverage: _Optional[_Union[_types_pb2.Coverage, _Mapping]] = ...) -> None: ...

class EditedConcept(_message.Message):
    __slots__ = ("concept_id", "name", "before", "after", "edits")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    name: str
    before: float
    after: float
    edits: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, concept_id: _Optional[int] = ..., name: _Optional[str] = ..., before: _Optional[float] = ..., after: _Optional[float] = ..., edits: _Optional[_Iterable[int]] = ...) -> None: ...

class ChatDelta(_message.Message):
    __slots__ = ("text", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens: int
    def __init__(self, text: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class ChatEnd(_message.Message):
    __slots__ = ("finish", "usage", "timings", "stop")
    FINISH_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    finish: ChatFinish
    usage: ChatUsage
    timings: ChatTimings
    stop: str
    def __init__(self, finish: _Optional[_Union[ChatFinish, str]] = ..., usage: _Optional[_Union[ChatUsage, _Mapping]] = ..., timings: _Optional[_Union[ChatTimings, _Mapping]] = ..., stop: _Optional[str] = ...) -> None: ...

class ChatUsage(_message.Message):
    __slots__ = ("prompt_tokens", "image_tokens", "completion_tokens", "context_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    image_tokens: int
    completion_tokens: int
    context_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., image_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., context_tokens: _Optional[int] = ...) -> None: ...

class ChatTimings(_message.Message):
    __slots__ = ("decode_us", "queue_us", "inference_us", "prepare_us", "first_token_us", "total_us")
    DECODE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_US_FIELD_NUMBER: _ClassVar[int]
    PREPARE_US_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_US_FIELD_NUMBER: _ClassVar[int]
    TOTAL_US_FIELD_NUMBER: _ClassVar[int]
    decode_us: int
    queue_us: int
    inference_us: int
    prepare_us: int
    first_token_us: int
    total_us: int
    def __init__(self, decode_us: _Optional[int] = ..., queue_us: _Optional[int] = ..., inference_us: _Optional[int] = ..., prepare_us: _Optional[int] = ..., first_token_us: _Optional[int] = ..., total_us: _Optional[int] = ...) -> None: ...
