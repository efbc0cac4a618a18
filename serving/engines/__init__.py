"""Engines run a bundle's graphs: base.py has the contract, and each engine has a file.

An engine is a class that follows `base.Engine`, and a line in this table. serving/engine_plans
builds what an engine needs, compares it with the bundle's own graphs, and chooses among engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.engines.base import Engine

Device = Literal["cpu", "cuda"]
"""Where graphs run. An engine raises EngineUnavailableError for a device that it cannot use."""

EnginePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""In which numbers a graph's large products run."""

AUTO = "auto"
"""In place of an engine or a precision: what is fastest on this machine and passes the parity gate.
"""

SLOW_BUILDS = frozenset({"onnxruntime_tensorrt", "tensorrt", "torch"})
"""Engines that take minutes to build: `auto` takes them only where somebody has built them."""

ENGINES: Plugins[Engine] = Plugins(
    "engine",
    {
        "onnxruntime": Plugin("serving.engines.onnxruntime_engine:OnnxRuntimeEngine", "serve"),
        "onnxruntime_tensorrt": Plugin(
            "serving.engines.onnxruntime_tensorrt_engine:OnnxRuntimeTensorRtEngine", "gpu"
        ),
        "openvino": Plugin("serving.engines.openvino_engine:OpenVinoEngine", "serve"),
        "tensorrt": Plugin("serving.engines.tensorrt_engine:TensorRtEngine", "tensorrt"),
        "torch": Plugin("serving.engines.torch_engine:TorchEngine", "torch"),
    },
    also=(AUTO,),
)
