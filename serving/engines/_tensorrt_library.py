"""TensorRT under one name: `tensorrt` (10, 11), or `tensorrt_rtx` where that is not installed."""

from __future__ import annotations

try:
    import tensorrt as trt
except ModuleNotFoundError:
    import tensorrt_rtx as trt

__all__ = ["IS_RTX", "trt"]

IS_RTX: bool = trt.__name__ == "tensorrt_rtx"
