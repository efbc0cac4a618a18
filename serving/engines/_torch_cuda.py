"""A compiled torch model on a CUDA device: pinned buffers, and a CUDA graph for each batch size."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serving.engines._batch_parts import run_in_parts


@dataclass(frozen=True)
class _Capture:
    """A CUDA graph, and where it reads and writes."""

    graph: torch.cuda.CUDAGraph
    host_input: torch.Tensor
    device_input: torch.Tensor
    device_outputs: tuple[torch.Tensor, ...]
    host_outputs: tuple[torch.Tensor, ...]


class CudaModel:
    """Runs a model of AOTInductor by replaying CUDA graphs, one run at a time."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        """`model` must have been loaded to run in one thread: its locks cannot be captured."""
        self._model, self._outputs = model, outputs
        self._stream = torch.cuda.Stream()
        self._lock = threading.Lock()
        self._captures: dict[int, _Capture] = {}

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Runs a batch of inputs (B, ...). Returns all outputs by name."""
        return run_in_parts(self._run_part, inputs)

    def _run_part(self, inputs: NDArray[Any], size: int) -> dict[str, NDArray[Any]]:
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            if size not in self._captures:
                self._captures[size] = self._capture(inputs, size)
            capture = self._captures[size]
            capture.host_input[: len(inputs)].copy_(torch.from_numpy(np.ascontiguousarray(inputs)))
            # Copies and kernels are in one stream: each waits for the one before.
            capture.device_input.copy_(capture.host_input, non_blocking=True)
            capture.graph.replay()
            for host, device in zip(capture.host_outputs, capture.device_outputs, strict=True):
                host.copy_(device, non_blocking=True)
            self._stream.synchronize()
            rows = [host[: len(inputs)].numpy().copy() for host in capture.host_outputs]
        return dict(zip(self._outputs, rows, strict=True))

    def _capture(self, inputs: NDArray[Any], size: int) -> _Capture:
        shape, kind = (size, *inputs.shape[1:]), torch.from_numpy(inputs[:0]).dtype
        host_input = torch.zeros(shape, dtype=kind, pin_memory=True)
        device_input = torch.zeros(shape, dtype=kind, device="cuda")
        self._model(device_input)  # what is set up at a first run cannot be captured
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            outputs = tuple(self._model(device_input))
        hosts = tuple(torch.empty_like(x, device="cpu", pin_memory=True) for x in outputs)
        return _Capture(graph, host_input, device_input, outputs, hosts)
