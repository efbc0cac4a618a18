"""AdminService, on a port of its own."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import grpc

from serving.core.requests import ModelSelector
from serving.models.registry import Registry, VersionState
from serving.rpc.convert import embedding as convert
from serving.rpc.interceptors.admission import CallAdmission
from sparseclip.v1 import admin_pb2, admin_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    VersionState.LOADING: admin_pb2.MODEL_STATE_LOADING,
    VersionState.SERVING: admin_pb2.MODEL_STATE_SERVING,
    VersionState.FAILED: admin_pb2.MODEL_STATE_FAILED,
}


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Loads and unloads models."""

    def __init__(self, registry: Registry, gate: CallAdmission) -> None:
        self._registry = registry
        self._gate = gate
        self._started = time.monotonic()

    async def LoadModel(  # noqa: N802
        self, request: admin_pb2.LoadModelRequest, context: Context
    ) -> admin_pb2.LoadModelResponse:
        """Loads a version, warms it up and makes it current."""
        started = time.monotonic()
        loaded = await self._registry.load(request.name, request.version)
        return admin_pb2.LoadModelResponse(
            model=convert.model_version(loaded),
            load_us=round((time.monotonic() - started) * 1e6),
        )

    async def UnloadModel(  # noqa: N802
        self, request: admin_pb2.UnloadModelRequest, context: Context
    ) -> admin_pb2.UnloadModelResponse:
        """Answers when the last call that used a version has ended."""
        chosen = ModelSelector(name=request.name, version=request.version)
        unloaded = await self._registry.unload(chosen)
        return admin_pb2.UnloadModelResponse(
            unloaded=[convert.model_version(model) for model in unloaded]
        )

    async def GetStatus(  # noqa: N802
        self, request: admin_pb2.GetStatusRequest, context: Context
    ) -> admin_pb2.GetStatusResponse:
        """The models and the load of this server."""
        models = self._registry.models
        return admin_pb2.GetStatusResponse(
            models=[
                admin_pb2.ModelStatus(
                    model=convert.model_version(listing.id),
                    state=_STATES[listing.state],
                    is_default=listing.is_default,
                    engine=listing.engine,
                )
                for listing in self._registry.listings()
            ],
            queued_images=sum(model.admitted_images for model in models),
            queued_texts=sum(model.batchers["text"].room.admitted for model in models),
            calls_in_flight=self._gate.calls,
            uptime_seconds=int(time.monotonic() - self._started),
            server_version=version("sparseclip"),
        )
