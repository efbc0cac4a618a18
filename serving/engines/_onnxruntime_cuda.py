"""Graphs in ONNX Runtime on a CUDA device: buffers that stay there, and captured CUDA graphs.

A CUDA graph replays all kernels of a run at once: without it, a batch of one image waits mostly for
kernels to be started. It holds for one shape and one set of buffers. So a batch is padded to one of
a few sizes, and each size has its buffers and its CUDA graph. ONNX Runtime tells them apart by a
number: another shape under the same number would replay the wrong one silently.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import CPU, INPUT, OnnxGraph, import_onnxruntime
from serving.engines._batch_parts import run_in_parts
from serving.engines.base import EngineConfig

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}

_GRAPH_ID = "gpu_graph_id"
_PINNED_DEVICE = "CUDAExecutionProvider"


def cuda_provider(config: EngineConfig, *, captured: bool) -> tuple[Any, ...]:
    """The CUDA provider's row for a session, with those of a CPU for what CUDA cannot run."""
    options = {
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "1" if captured else "0",
        "use_tf32": "0",  # it rounds fp32 products to the 10 bits of fp16
    }
    if config.memory_mib:
        options["gpu_mem_limit"] = str(config.memory_mib * 2**20)
    return (("CUDAExecutionProvider", options), *CPU)


@dataclass(frozen=True)
class _Buffers:
    """Where the inputs and outputs of one batch size are, on the device and on the host."""

    binding: Any
    options: Any
    device_input: Any
    device_outputs: tuple[Any, ...]
    host_input: Any
    host_outputs: tuple[Any, ...]


class BoundGraph:
    """An OnnxGraph whose inputs and outputs have buffers on a device, by batch size."""

    def __init__(self, graph: OnnxGraph, *, captured: bool, device: str = "cuda") -> None:
        """`captured` runs are replayed as CUDA graphs. Another `device` is for tests."""
        self.name, self.outputs, self.providers = graph.name, graph.outputs, graph.providers
        self._session = graph.session
        self._captured = captured
        self._device = device
        self._lock = threading.Lock()
        self._buffers: dict[int, _Buffers] = {}

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs a batch of inputs (B, ...). Returns all outputs by name."""
        return run_in_parts(self._run_part, inputs)

    def _run_part(self, inputs: NDArray[Any], size: int) -> dict[str, NDArray[Any]]:
        # ONNX Runtime replays one CUDA graph of a session at a time.
        with self._lock:
            if size not in self._buffers:
                self._buffers[size] = self._new_buffers(size, inputs)
            buffers = self._buffers[size]
            buffers.host_input.numpy()[: len(inputs)] = inputs
            buffers.device_input.update_inplace(buffers.host_input)
            self._session.run_with_iobinding(buffers.binding, buffers.options)
            for source, target in zip(buffers.device_outputs, buffers.host_outputs, strict=True):
                target.update_inplace(source)
            rows = [target.numpy()[: len(inputs)].copy() for target in buffers.host_outputs]
        return dict(zip(self.outputs, rows, strict=True))

    def _new_buffers(self, size: int, inputs: NDArray[Any]) -> _Buffers:
        library = import_onnxruntime()
        new = library.OrtValue.ortvalue_from_shape_and_type
        host = _host_memory(library, self._device)

        def pair(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
            value = new(shape, dtype, **host)
            if not np.shares_memory(value.numpy(), value.numpy()):
                value = new(shape, dtype)  # writing to a copy of pinned memory would change nothing
            return new(shape, dtype, self._device, 0), value

        binding, options = self._session.io_binding(), library.RunOptions()
        device_input, host_input = pair((size, *inputs.shape[1:]), inputs.dtype)
        host_input.numpy()[:] = 0  # rows of padding are inputs, too
        binding.bind_ortvalue_input(INPUT[self.name], device_input)
        entries = {entry.name: entry for entry in self._session.get_outputs()}
        outputs = []
        for name in self.outputs:
            entry = entries[name]
            outputs.append(pair((size, *entry.shape[1:]), DTYPES[entry.type]))
            binding.bind_ortvalue_output(name, outputs[-1][0])
        # 0 is reserved, and -1 stands for a run that is not captured.
        number = len(self._buffers) + 1 if self._captured else -1
        options.add_run_config_entry(_GRAPH_ID, str(number))
        devices, hosts = zip(*outputs, strict=True)
        return _Buffers(binding, options, device_input, devices, host_input, hosts)


def _host_memory(library: Any, device: str) -> dict[str, Any]:
    """Where a buffer of the host is: in pinned memory, which the device copies from by itself."""
    kind = library.OrtDeviceMemoryType.HOST_ACCESSIBLE
    if device == "cuda":
        for entry in library.get_ep_devices():
            if entry.ep_name == _PINNED_DEVICE and (pinned := entry.memory_info(kind)) is not None:
                return {"memory_info": pinned}
    return {}
