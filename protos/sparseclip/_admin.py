"""The operations of a server's admin port, and its health. Like operations.py, without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sparseclip import _convert as convert
from sparseclip import concepts
from sparseclip._operations import Method, Operation, ask
from sparseclip.results import ModelVersion
from sparseclip.v1 import admin_pb2

_ADMIN = "/sparseclip.v1.AdminService"
LOAD_MODEL = Method(f"{_ADMIN}/LoadModel", admin_pb2.LoadModelResponse)
UNLOAD_MODEL = Method(f"{_ADMIN}/UnloadModel", admin_pb2.UnloadModelResponse)
GET_STATUS = Method(f"{_ADMIN}/GetStatus", admin_pb2.GetStatusResponse)
# HealthCheckRequest is one string at field 1 and HealthCheckResponse one enum at field 1, which is
# what these wrappers are on the wire: health needs no package of its own.
HEALTH_CHECK = Method("/grpc.health.v1.Health/Check", Int32Value)


class Health(Enum):
    """What grpc.health.v1 says of a service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is now current."""

    model: ModelVersion
    load_us: int
    """How long loading and warming it up took, in microseconds."""


def health(service: str) -> Operation[Health]:
    """The health of one service, or of the whole server for an empty name."""
    reply = yield from ask(HEALTH_CHECK, StringValue(value=service))
    known = {state.value for state in Health}
    return Health(reply.value if reply.value in known else 0)


def load(name: str, version: str) -> Operation[LoadedModel]:
    """Loads a version of a model; empty means the one in the model's CURRENT file."""
    reply = yield from ask(LOAD_MODEL, admin_pb2.LoadModelRequest(name=name, version=version))
    return LoadedModel(model=convert.model(reply.model), load_us=reply.load_us)


def unload(name: str, version: str) -> Operation[tuple[ModelVersion, ...]]:
    """Unloads a version of a model, or all of them; gives those that it unloaded."""
    reply = yield from ask(UNLOAD_MODEL, admin_pb2.UnloadModelRequest(name=name, version=version))
    return tuple(convert.model(entry) for entry in reply.unloaded)


def status() -> Operation[concepts.ServerStatus]:
    """The server's models and its load."""
    return convert.server_status((yield from ask(GET_STATUS, admin_pb2.GetStatusRequest())))
