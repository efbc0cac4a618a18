"""From a typed graph to a TensorRT plan, through `tensorrt` (10, 11) or `tensorrt_rtx`.

Both have one API. `tensorrt` is for GPUs of data centres, and compiles for the GPU at hand.
`tensorrt_rtx` is for GeForce and RTX; it makes a plan without a GPU, and compiles its kernels where
the plan is opened.

The network is strongly typed: each layer has the type that the graph gives it, in every version.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from serving.engines._batch_parts import BATCH_SIZES
from serving.engines._tensorrt_library import IS_RTX, trt
from serving.engines.base import EngineError

OPTIMAL_BATCH = 32
"""The batch size that TensorRT chooses kernels for; all from 1 to the last of BATCH_SIZES run."""


class _Log(trt.ILogger):  # type: ignore[misc]
    """Keeps the last errors for the exception; the rest of what TensorRT says is not shown."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors = [*self.errors[-2:], message]


LOG = _Log()


class TensorRtNetwork:
    """A graph as TensorRT reads it."""

    _timing_cache: bytes = b""
    """What builds of this process have timed: two graphs of a model share most of their layers."""

    def __init__(self, path: Path) -> None:
        """Reads an ONNX file. Raises EngineError."""
        self._builder = trt.Builder(LOG)
        # A network of TensorRT 11 is strongly typed without being asked.
        flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        self._network = self._builder.create_network(0 if flag is None else 1 << int(flag))
        self._parser = trt.OnnxParser(self._network, LOG)
        if not self._parser.parse_from_file(str(path)):
            errors = [str(self._parser.get_error(i)) for i in range(self._parser.num_errors)]
            raise EngineError(f"{path.name}: TensorRT cannot read it: {'; '.join(errors)}")

    def layers(self) -> Counter[tuple[str, str]]:
        """How many layers there are, by their kind and the type of their first output."""
        layers = (self._network.get_layer(i) for i in range(self._network.num_layers))
        return Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers)

    def plan(self) -> bytes:
        """The serialized engine, for batches of 1 to the last of BATCH_SIZES. Takes minutes, except
        with tensorrt_rtx. Raises EngineError."""
        config = self._builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # it rounds fp32 products to the 10 bits of fp16
        profile = self._builder.create_optimization_profile()
        entry = self._network.get_input(0)
        rest = tuple(entry.shape)[1:]
        sizes = (1, OPTIMAL_BATCH, BATCH_SIZES[-1])
        profile.set_shape(entry.name, *((size, *rest) for size in sizes))
        config.add_optimization_profile(profile)
        cache = None if IS_RTX else config.create_timing_cache(TensorRtNetwork._timing_cache)
        if cache is not None:
            config.set_timing_cache(cache, False)
        LOG.errors.clear()
        plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            raise EngineError(f"TensorRT cannot build it: {'; '.join(LOG.errors)}")
        if cache is not None:
            TensorRtNetwork._timing_cache = bytes(cache.serialize())
        return bytes(plan)
