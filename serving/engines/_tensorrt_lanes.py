"""Runs of a TensorRT plan: buffers, streams and CUDA graphs.

A lane is what one run at a time uses: pinned buffers, buffers on the device and a CUDA graph for
each batch size. Two lanes let one run's copies go on during another's kernels:

    copies in    | lane 0 | lane 1 |        | lane 0 |
    kernels               | lane 0 | lane 1 |        | lane 0 |
    copies out                     | lane 0 | lane 1 |

All kernels are in one stream, so that lanes can share TensorRT's working memory. Events order the
streams: kernels that did not wait for their inputs would give wrong numbers, and no error.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines import _cuda_runtime as cuda
from serving.engines._batch_parts import run_in_parts
from serving.engines._tensorrt_library import IS_RTX, trt
from serving.engines._tensorrt_network import LOG
from serving.engines.base import EngineError


class Streams:
    """One stream for copies to the device, one for kernels, one for copies to the host."""

    def __init__(self) -> None:
        self.copies_in, self.kernels, self.copies_out = (cuda.new_stream() for _ in range(3))
        self.lock = threading.Lock()
        """Held while the work of a run is given to the streams, and while a CUDA graph is made."""

    def close(self) -> None:
        """Frees the streams."""
        for stream in (self.copies_in, self.kernels, self.copies_out):
            cuda.close_stream(stream)


class TensorRtModel:
    """A plan on the device, with lanes that run it."""

    def __init__(
        self, path: Path, graph_input: str, outputs: Sequence[str], streams: Streams, lanes: int
    ) -> None:
        """Opens a plan that this machine built. Raises EngineError, OutOfMemoryError."""
        self._runtime = trt.Runtime(LOG)
        LOG.errors.clear()
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{path.name}: TensorRT cannot open it: {'; '.join(LOG.errors)}")
        self.engine: Any = engine
        self.input, self.outputs = graph_input, tuple(outputs)
        self.streams = streams
        self.scratch = cuda.DeviceMemory(engine.device_memory_size_v2)
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for _ in range(lanes):
            self._lanes.put(Lane(self))

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs a batch of inputs (B, ...). Returns all outputs by name."""
        lane = self._lanes.get()
        try:
            return run_in_parts(lane.run, inputs)
        finally:
            self._lanes.put(lane)

    def new_context(self) -> Any:
        """An execution context that works in the memory that all share."""
        settings = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if IS_RTX:
            config = self.engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(settings)
            # It would compile the kernels of a shape beside its first runs, and a CUDA graph would
            # keep the slow ones that stand in for them.
            eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
            settings = config
        context = self.engine.create_execution_context(settings)
        if context is None:
            raise EngineError(f"TensorRT cannot run the plan: {'; '.join(LOG.errors)}")
        context.set_device_memory(self.scratch.pointer, self.engine.device_memory_size_v2)
        return context

    def close(self) -> None:
        """Frees the buffers; `run` is not called again."""
        while not self._lanes.empty():
            self._lanes.get().close()
        self.scratch.free()


class _Slot:
    """The buffers and the CUDA graph of one batch size in one lane."""

    def __init__(self, model: TensorRtModel, size: int, inputs: NDArray[Any]) -> None:
        streams = model.streams
        self.context = model.new_context()
        self.input = cuda.BufferPair((size, *inputs.shape[1:]), inputs.dtype)
        self.context.set_input_shape(model.input, self.input.host.shape)
        self.context.set_tensor_address(model.input, self.input.pointer)
        self.outputs = []
        for name in model.outputs:
            shape = tuple(self.context.get_tensor_shape(name))
            kind = trt.nptype(model.engine.get_tensor_dtype(name))
            self.outputs.append(cuda.BufferPair(shape, kind))
            self.context.set_tensor_address(name, self.outputs[-1].pointer)
        # The first run sets up what cannot be captured.
        self._enqueue(streams.kernels)
        cuda.synchronize(streams.kernels)
        cuda.begin_capture(streams.kernels)
        try:
            self._enqueue(streams.kernels)
        finally:
            self.graph = cuda.end_capture(streams.kernels)

    def _enqueue(self, stream: Any) -> None:
        if not self.context.execute_async_v3(int(stream)):
            raise EngineError(f"TensorRT: {'; '.join(LOG.errors)}")

    def close(self) -> None:
        cuda.destroy(self.graph)
        for pair in (self.input, *self.outputs):
            pair.free()


class Lane:
    """What one run at a time uses."""

    def __init__(self, model: TensorRtModel) -> None:
        self._model = model
        self._slots: dict[int, _Slot] = {}
        self._input_is_there, self._output_is_there, self._done = (
            cuda.new_event() for _ in range(3)
        )

    def run(self, inputs: NDArray[Any], size: int) -> dict[str, NDArray[Any]]:
        """Runs a batch of inputs (B, ...), padded to `size`. Returns B rows of each output."""
        cuda.use_device()
        streams = self._model.streams
        if size not in self._slots:
            with streams.lock:
                self._slots[size] = _Slot(self._model, size, inputs)
        slot = self._slots[size]
        slot.input.host[: len(inputs)] = inputs
        with streams.lock:
            slot.input.to_device(streams.copies_in)
            cuda.record(self._input_is_there, streams.copies_in)
            cuda.wait(streams.kernels, self._input_is_there)
            cuda.launch(slot.graph, streams.kernels)
            cuda.record(self._output_is_there, streams.kernels)
            cuda.wait(streams.copies_out, self._output_is_there)
            for pair in slot.outputs:
                pair.to_host(streams.copies_out)
            cuda.record(self._done, streams.copies_out)
        cuda.wait_on_host(self._done)
        rows = [np.array(pair.host[: len(inputs)]) for pair in slot.outputs]
        return dict(zip(self._model.outputs, rows, strict=True))

    def close(self) -> None:
        """Frees the buffers."""
        for slot in self._slots.values():
            slot.close()
