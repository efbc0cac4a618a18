"""The handlers of AdminService, which has a port of its own."""

from __future__ import annotations

import time
from importlib.metadata import version

from serving.core.requests import ModelSelector
from serving.models.loaded_version import VersionState
from serving.models.registry import Registry
from serving.rpc.call_context import RpcContext
from serving.rpc.convert import embedding as convert
from serving.rpc.interceptors.call_admission import CallAdmission
from sparseclip.v1 import admin_pb2, admin_pb2_grpc

_STATES = {
    VersionState.LOADING: admin_pb2.MODEL_STATE_LOADING,
    VersionState.SERVING: admin_pb2.MODEL_STATE_SERVING,
    VersionState.FAILED: admin_pb2.MODEL_STATE_FAILED,
}


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Loads and unloads models."""

    def __init__(self, registry: Registry, admission: CallAdmission) -> None:
        self._registry = registry
        self._admission = admission
        self._started = time.monotonic()

    async def LoadModel(  # noqa: N802
        self, request: admin_pb2.LoadModelRequest, context: RpcContext
    ) -> admin_pb2.LoadModelResponse:
        """Loads a version, warms it up and makes it current."""
        started = time.monotonic()
        loaded = await self._registry.load(request.name, request.version)
        return admin_pb2.LoadModelResponse(
            model=convert.model_version(loaded),
            load_us=round((time.monotonic() - started) * 1e6),
        )

    async def UnloadModel(  # noqa: N802
        self, request: admin_pb2.UnloadModelRequest, context: RpcContext
    ) -> admin_pb2.UnloadModelResponse:
        """Unloads versions, and answers when the last call that used one of them has ended."""
        selector = ModelSelector(name=request.name, version=request.version)
        unloaded = await self._registry.unload(selector)
        return admin_pb2.UnloadModelResponse(
            unloaded=[convert.model_version(model) for model in unloaded]
        )

    async def GetStatus(  # noqa: N802
        self, request: admin_pb2.GetStatusRequest, context: RpcContext
    ) -> admin_pb2.GetStatusResponse:
        """The models and the load of this server."""
        models = self._registry.models
        return admin_pb2.GetStatusResponse(
            models=[
                admin_pb2.ModelStatus(
                    model=convert.model_version(status.id),
                    state=_STATES[status.state],
                    is_default=status.is_default,
                    engine=status.engine,
                )
                for status in self._registry.versions()
            ],
            queued_images=sum(model.admitted_images for model in models),
            queued_texts=sum(model.batchers["text"].admission.admitted for model in models),
            calls_in_flight=self._admission.calls,
            uptime_seconds=int(time.monotonic() - self._started),
            server_version=version("sparseclip"),
        )
