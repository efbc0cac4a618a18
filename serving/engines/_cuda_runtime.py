"""CUDA's runtime through `cuda-bindings`: buffers, streams, events and graphs."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import runtime
from numpy.typing import DTypeLike, NDArray

from serving.engines.base import EngineError, EngineUnavailableError, OutOfMemoryError

TO_DEVICE = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost


def checked(result: tuple[Any, ...]) -> Any:
    """What a call returned beside its status. Raises OutOfMemoryError, EngineError."""
    status, *values = result
    if status == runtime.cudaError_t.cudaErrorMemoryAllocation:
        raise OutOfMemoryError("CUDA: out of memory")
    if status != runtime.cudaError_t.cudaSuccess:
        raise EngineError(f"CUDA: {status.name}")
    return values[0] if values else None


def check_device() -> None:
    """Raises EngineUnavailableError where there is no CUDA device."""
    status, count = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess or not count:
        raise EngineUnavailableError("engine.device: there is no CUDA device; use cpu")


def use_device() -> None:
    """Makes the first device that of the calling thread."""
    checked(runtime.cudaSetDevice(0))


class DeviceMemory:
    """Memory on the device."""

    def __init__(self, size: int) -> None:
        self.pointer = int(checked(runtime.cudaMalloc(max(size, 1))))

    def free(self) -> None:
        """Gives the memory back."""
        runtime.cudaFree(self.pointer)


class BufferPair:
    """An array in pinned memory of the host, and its place on the device."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._pinned = int(checked(runtime.cudaMallocHost(size)))
        self._device = DeviceMemory(size)
        memory = (ctypes.c_byte * size).from_address(self._pinned)
        self.host: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
        self.host[:] = 0

    @property
    def pointer(self) -> int:
        """The address on the device."""
        return self._device.pointer

    def to_device(self, stream: Any) -> None:
        """Starts the copy of all of it to the device."""
        size = self.host.nbytes
        checked(runtime.cudaMemcpyAsync(self.pointer, self._pinned, size, TO_DEVICE, stream))

    def to_host(self, stream: Any) -> None:
        """Starts the copy of all of it to the host."""
        size = self.host.nbytes
        checked(runtime.cudaMemcpyAsync(self._pinned, self.pointer, size, TO_HOST, stream))

    def free(self) -> None:
        """Gives the memory back; `host` is not read again."""
        self._device.free()
        runtime.cudaFreeHost(self._pinned)


def new_stream() -> Any:
    """A stream that does not wait for the default one."""
    return checked(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))


def close_stream(stream: Any) -> None:
    """Frees a stream."""
    runtime.cudaStreamDestroy(stream)


def new_event() -> Any:
    """An event that orders streams, without a time."""
    return checked(runtime.cudaEventCreateWithFlags(runtime.cudaEventDisableTiming))


def record(event: Any, stream: Any) -> None:
    """Marks what a stream has been given so far."""
    checked(runtime.cudaEventRecord(event, stream))


def wait(stream: Any, event: Any) -> None:
    """Lets a stream go on only after an event."""
    checked(runtime.cudaStreamWaitEvent(stream, event, 0))


def wait_on_host(event: Any) -> None:
    """Blocks until an event."""
    checked(runtime.cudaEventSynchronize(event))


def synchronize(stream: Any) -> None:
    """Blocks until a stream has done all that it was given."""
    checked(runtime.cudaStreamSynchronize(stream))


def begin_capture(stream: Any) -> None:
    """From here on a stream's work of this thread is collected, not run."""
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    checked(runtime.cudaStreamBeginCapture(stream, mode))


def end_capture(stream: Any) -> Any:
    """The collected work as a CUDA graph that can be launched."""
    graph = checked(runtime.cudaStreamEndCapture(stream))
    launchable = checked(runtime.cudaGraphInstantiate(graph, 0))
    runtime.cudaGraphDestroy(graph)
    return launchable


def destroy(graph: Any) -> None:
    """Frees a CUDA graph."""
    runtime.cudaGraphExecDestroy(graph)


def launch(graph: Any, stream: Any) -> None:
    """Starts a CUDA graph."""
    checked(runtime.cudaGraphLaunch(graph, stream))
