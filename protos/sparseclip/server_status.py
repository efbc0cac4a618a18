"""What a server says of itself: its health, its models and its load."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sparseclip.results import ModelVersion


class Health(Enum):
    """The state of a service, as grpc.health.v1 gives it."""

    UNKNOWN = 0
    """The server does not say."""
    SERVING = 1
    """The service answers calls."""
    NOT_SERVING = 2
    """The service answers no calls: it is starting, is shutting down, or lacks what it needs."""
    SERVICE_UNKNOWN = 3
    """The server has no such service."""


class ModelState(Enum):
    """The state of one model of a server."""

    UNSPECIFIED = 0
    """A state that this client does not know."""
    LOADING = 1
    """It is being read and warmed up."""
    SERVING = 2
    """It answers calls."""
    FAILED = 3
    """It could not be loaded."""


@dataclass(frozen=True, kw_only=True)
class ModelStatus:
    """One model of a server."""

    model: ModelVersion
    state: ModelState
    is_default: bool
    """It answers the calls that name no model."""
    engine: str
    """What runs its graphs: library, version and device; empty for a model that is not loaded."""


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """The models of a server, and its load at the moment of the call."""

    models: tuple[ModelStatus, ...]
    queued_images: int
    """Images that were admitted and are not answered yet."""
    queued_texts: int
    """Texts that were admitted and are not answered yet."""
    calls_in_flight: int
    """Calls that are being answered; health checks do not count."""
    uptime_seconds: int
    """Seconds since the server started."""
    server_version: str
    """The version of the server's software."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that was loaded and is current now."""

    model: ModelVersion
    load_us: int
    """Microseconds that loading and warming up took."""
