"""The handlers of GRPCInferenceService: convert, lease, ask the model, convert back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

from serving.batching.item_results import ItemResult
from serving.core.config import ServerConfig
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.metrics import Metrics
from serving.core.requests import EmbedItem, ModelSelector
from serving.models.loaded_model import ServedModel
from serving.models.loaded_version import VersionState
from serving.models.registry import Registry
from serving.rpc.call_context import RpcContext, ServerCall, current_call
from serving.rpc.interceptors.call_admission import CallAdmission
from serving.rpc.item_counts import count_item
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference import open_inference_pb2_grpc
from serving.rpc.open_inference.infer_request import InferCall, infer_call, item_count
from serving.rpc.open_inference.infer_response import all_answered, infer_response
from serving.rpc.open_inference.model_description import PLATFORM, model_config, model_metadata
from serving.rpc.open_inference.model_statistics import ModelCounts
from serving.rpc.open_inference.ordered_window import OrderedWindow

INFERENCE_SERVICE = "inference.GRPCInferenceService"
MODEL_INFER = f"/{INFERENCE_SERVICE}/ModelInfer"

EXTENSIONS = ("model_configuration", "model_repository", "parameters", "statistics")
"""Triton's extensions that this server has."""

_STATES = {
    VersionState.LOADING: "LOADING",
    VersionState.SERVING: "READY",
    VersionState.FAILED: "UNAVAILABLE",
}

Embed = Callable[[ServedModel, InferCall, float], Awaitable[list[ItemResult]]]
"""Answers the items of a call with a model until a deadline, in the event loop's time."""


class OpenInferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """What Triton's and KServe's clients ask."""

    def __init__(
        self,
        registry: Registry,
        config: ServerConfig,
        metrics: Metrics,
        admission: CallAdmission,
        sanitize: Callable[[Exception], ServingError],
    ) -> None:
        """`sanitize` makes the server's own errors of others."""
        self._registry = registry
        self._limits = config.limits
        self._has_admin = config.admin_port is not None
        self._metrics = metrics
        self._admission = admission
        self._statistics = ModelCounts()
        self._sanitize = sanitize

    async def ServerLive(  # noqa: N802
        self, request: pb.ServerLiveRequest, context: RpcContext
    ) -> pb.ServerLiveResponse:
        """Whether the server answers at all."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self, request: pb.ServerReadyRequest, context: RpcContext
    ) -> pb.ServerReadyResponse:
        """Whether calls of the default model are answered."""
        return pb.ServerReadyResponse(ready=self._admission.is_open and self._registry.healthy)

    async def ModelReady(  # noqa: N802
        self, request: pb.ModelReadyRequest, context: RpcContext
    ) -> pb.ModelReadyResponse:
        """Whether calls of a model are answered."""
        ready = self._registry.is_ready(_selector(request.name, request.version))
        return pb.ModelReadyResponse(ready=self._admission.is_open and ready)

    async def ServerMetadata(  # noqa: N802
        self, request: pb.ServerMetadataRequest, context: RpcContext
    ) -> pb.ServerMetadataResponse:
        """The server's name, version and extensions."""
        return pb.ServerMetadataResponse(
            name=PLATFORM, version=version("sparseclip"), extensions=EXTENSIONS
        )

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: RpcContext
    ) -> pb.ModelMetadataResponse:
        """The tensors of a model."""
        with self._registry.lease(_selector(request.name, request.version)) as model:
            loaded = self._registry.models
            versions = [other.id.version for other in loaded if other.id.name == model.id.name]
            return model_metadata(model, versions)

    async def ModelConfig(  # noqa: N802
        self, request: pb.ModelConfigRequest, context: RpcContext
    ) -> pb.ModelConfigResponse:
        """The tensors of a model, in Triton's form."""
        with self._registry.lease(_selector(request.name, request.version)) as model:
            return model_config(model)

    async def ModelInfer(  # noqa: N802
        self, request: pb.ModelInferRequest, context: RpcContext
    ) -> pb.ModelInferResponse:
        """Answers all items of one call, or none."""
        return await self._answer(request, _embed_at_once, current_call())

    async def ModelStreamInfer(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: RpcContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Any number of calls, answered in their order; one that fails does not end the stream."""
        call = current_call()

        async def charged() -> AsyncIterator[pb.ModelInferRequest]:
            async for request in request_iterator:
                for _ in range(min(item_count(request), self._limits.texts_per_call)):
                    await call.quota.charge_item()
                yield request

        async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
            try:
                reply = await self._answer(request, _embed_when_free, call)
            except Exception as error:
                return _failed(request, self._sanitize(error))
            reply.parameters["triton_final_response"].bool_param = True
            return pb.ModelStreamInferResponse(infer_response=reply)

        window = OrderedWindow(
            charged(),
            answer,
            item_count,
            size=self._limits.stream_window,
            stop=self._admission.draining,
        )
        async for reply in window.replies():
            yield reply

    async def _answer(
        self, request: pb.ModelInferRequest, embed: Embed, call: ServerCall
    ) -> pb.ModelInferResponse:
        infer = infer_call(request, self._limits)
        with (
            self._registry.lease(infer.selector) as model,
            self._statistics.of(model).call() as statistics,
        ):
            names = infer.outputs_of(model.architecture)
            model.check_framing(infer.options.framing, "parameters.framing")
            deadline = call.deadline
            if infer.timeout_s is not None:
                deadline = min(deadline, asyncio.get_running_loop().time() + infer.timeout_s)
            async with asyncio.timeout_at(deadline):
                results = await embed(model, infer, deadline)
            for item, result in zip(infer.items, results, strict=True):
                count_item(self._metrics, item, result)
            answered = all_answered(results, infer.input)
            started = time.perf_counter()
            reply = infer_response(infer, names, answered, model)
            statistics.stages(results, time.perf_counter() - started)
            return reply

    async def ModelStatistics(  # noqa: N802
        self, request: pb.ModelStatisticsRequest, context: RpcContext
    ) -> pb.ModelStatisticsResponse:
        """What was asked of a model, or of all models, since it was loaded."""
        if request.name:
            with self._registry.lease(_selector(request.name, request.version)) as model:
                models = [model]
        else:
            models = self._registry.models
        return pb.ModelStatisticsResponse(
            model_stats=[self._statistics.message(model) for model in models]
        )

    async def RepositoryIndex(  # noqa: N802
        self, request: pb.RepositoryIndexRequest, context: RpcContext
    ) -> pb.RepositoryIndexResponse:
        """The models that are loaded, are being loaded, or could not be loaded."""
        _check_repository(request.repository_name)
        reply = pb.RepositoryIndexResponse()
        for status in self._registry.versions():
            if status.state is VersionState.SERVING or not request.ready:
                state = _STATES[status.state]
                reply.models.add(name=status.id.name, version=status.id.version, state=state)
        return reply

    async def RepositoryModelLoad(  # noqa: N802
        self, request: pb.RepositoryModelLoadRequest, context: RpcContext
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model's current version, and makes it current in the server."""
        self._check_admin(request.repository_name)
        if request.parameters:
            raise invalid("parameters", "a bundle has its own configuration and files")
        await self._registry.load(request.model_name, "")
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: N802
        self, request: pb.RepositoryModelUnloadRequest, context: RpcContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model, and answers when the last call that used it has ended."""
        self._check_admin(request.repository_name)
        if set(request.parameters) - {"unload_dependents"}:
            raise invalid("parameters", "only unload_dependents is known")
        await self._registry.unload(ModelSelector(name=request.model_name))
        return pb.RepositoryModelUnloadResponse()

    def _check_admin(self, repository: str) -> None:
        """Raises ServingError where AdminService would not be served either."""
        if not self._has_admin:
            message = "models are loaded and unloaded only where the server has an admin port"
            raise ServingError(ErrorKind.CONFLICT, message)
        _check_repository(repository)


async def _embed_at_once(model: ServedModel, call: InferCall, deadline: float) -> list[ItemResult]:
    return await model.embed(call.items, deadline, priority=call.options.priority or "interactive")


async def _embed_when_free(
    model: ServedModel, call: InferCall, deadline: float
) -> list[ItemResult]:
    priority = call.options.priority or "bulk"

    async def one(item: EmbedItem) -> ItemResult:
        return await model.embed_when_free(item, deadline, priority=priority)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in call.items]
    return [task.result() for task in tasks]


def _failed(request: pb.ModelInferRequest, error: ServingError) -> pb.ModelStreamInferResponse:
    reply = pb.ModelInferResponse(
        id=request.id, model_name=request.model_name, model_version=request.model_version
    )
    return pb.ModelStreamInferResponse(error_message=error.message, infer_response=reply)


def _selector(name: str, version: str) -> ModelSelector:
    return ModelSelector(name=name, version=version)


def _check_repository(name: str) -> None:
    if name:
        raise invalid("repository_name", "must be empty: the server has one repository")
