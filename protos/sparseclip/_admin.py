"""The operations of a server's admin port, and its health check. Like _operations, without I/O."""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sparseclip._convert import model_version_from_proto, server_status_from_proto
from sparseclip._methods import Method, Operation, call_method
from sparseclip.results import ModelVersion
from sparseclip.server_status import Health, LoadedModel, ServerStatus
from sparseclip.v1 import admin_pb2

_ADMIN = "/sparseclip.v1.AdminService"
LOAD_MODEL = Method(f"{_ADMIN}/LoadModel", admin_pb2.LoadModelResponse)
UNLOAD_MODEL = Method(f"{_ADMIN}/UnloadModel", admin_pb2.UnloadModelResponse)
GET_STATUS = Method(f"{_ADMIN}/GetStatus", admin_pb2.GetStatusResponse)
# grpc.health.v1 needs no package of its own: HealthCheckRequest has one string at field 1 and
# HealthCheckResponse one enum at field 1. On the wire that is what these wrappers are.
HEALTH_CHECK = Method("/grpc.health.v1.Health/Check", Int32Value)


def check_health(service: str) -> Operation[Health]:
    """The health of one service; an empty name means the whole server."""
    reply = yield from call_method(HEALTH_CHECK, StringValue(value=service))
    known_values = {state.value for state in Health}
    return Health(reply.value if reply.value in known_values else 0)


def load_model(name: str, version: str) -> Operation[LoadedModel]:
    """Loads a version of a model; an empty version is the one in the model's CURRENT file."""
    request = admin_pb2.LoadModelRequest(name=name, version=version)
    reply = yield from call_method(LOAD_MODEL, request)
    return LoadedModel(model=model_version_from_proto(reply.model), load_us=reply.load_us)


def unload_model(name: str, version: str) -> Operation[tuple[ModelVersion, ...]]:
    """Unloads a version of a model; an empty version means all. Returns what was unloaded."""
    request = admin_pb2.UnloadModelRequest(name=name, version=version)
    reply = yield from call_method(UNLOAD_MODEL, request)
    return tuple(model_version_from_proto(entry) for entry in reply.unloaded)


def get_status() -> Operation[ServerStatus]:
    """The server's models and its load."""
    reply = yield from call_method(GET_STATUS, admin_pb2.GetStatusRequest())
    return server_status_from_proto(reply)
