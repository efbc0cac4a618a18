"""The client of a Sparseclip server: `from sparseclip import Client`.

`Client` blocks and `AsyncClient` awaits. `AdminClient` and `AsyncAdminClient` speak to the admin
port. Every type that their methods take, return or raise is here. The package needs neither torch
nor onnxruntime. The generated messages of the wire contract are in `sparseclip.v1`.
"""

from importlib.metadata import PackageNotFoundError, version

from sparseclip._connection import Tls
from sparseclip._image_files import BinaryFile, ImageInput, ImageObject
from sparseclip._items import Item, Outputs
from sparseclip._retry import RetryPolicy
from sparseclip.aio import AsyncAdminClient, AsyncClient
from sparseclip.chat import (
    ChatDelta,
    ChatEnd,
    ChatEvent,
    ChatFinish,
    ChatImage,
    ChatMessage,
    ChatRole,
    ChatSampling,
    ChatStart,
    ChatTimings,
    ChatUsage,
    EditedConcept,
    ImageConcepts,
    PhraseCoverage,
)
from sparseclip.classifier import Classification, Classifier
from sparseclip.client import AdminClient, Client
from sparseclip.concepts import (
    Concept,
    ConceptExplanation,
    ConceptKey,
    ConceptMatch,
    ConceptMatches,
    ConceptPage,
    Evidence,
    Explanation,
)
from sparseclip.errors import CallError, FieldViolation, ItemStatus
from sparseclip.model_info import ModelInfo, ModelKind, ScoreKind, ServerLimits
from sparseclip.results import (
    Coverage,
    Embedding,
    Embeddings,
    FloatArray,
    ImageFraming,
    ModelVersion,
    PatchMap,
    Priority,
    ScoredCaption,
    ScoredConcept,
    Timings,
)
from sparseclip.server_status import Health, LoadedModel, ModelState, ModelStatus, ServerStatus
from sparseclip.steering import Edit, EditOperation, Steering

__all__ = [
    "AdminClient",
    "AsyncAdminClient",
    "AsyncClient",
    "BinaryFile",
    "CallError",
    "ChatDelta",
    "ChatEnd",
    "ChatEvent",
    "ChatFinish",
    "ChatImage",
    "ChatMessage",
    "ChatRole",
    "ChatSampling",
    "ChatStart",
    "ChatTimings",
    "ChatUsage",
    "Classification",
    "Classifier",
    "Client",
    "Concept",
    "ConceptExplanation",
    "ConceptKey",
    "ConceptMatch",
    "ConceptMatches",
    "ConceptPage",
    "Coverage",
    "Edit",
    "EditOperation",
    "EditedConcept",
    "Embedding",
    "Embeddings",
    "Evidence",
    "Explanation",
    "FieldViolation",
    "FloatArray",
    "Health",
    "ImageConcepts",
    "ImageFraming",
    "ImageInput",
    "ImageObject",
    "Item",
    "ItemStatus",
    "LoadedModel",
    "ModelInfo",
    "ModelKind",
    "ModelState",
    "ModelStatus",
    "ModelVersion",
    "Outputs",
    "PatchMap",
    "Priority",
    "PhraseCoverage",
    "RetryPolicy",
    "ScoreKind",
    "ScoredCaption",
    "ScoredConcept",
    "ServerLimits",
    "ServerStatus",
    "Steering",
    "Timings",
    "Tls",
    "__version__",
]

try:
    __version__ = version("sparseclip")
except PackageNotFoundError:  # a source tree that nobody has installed
    __version__ = "0+unknown"
