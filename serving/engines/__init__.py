"""What runs a bundle's graphs: the contract in base.py, one file for each engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.engines.base import Engine

ENGINES: Plugins[Engine] = Plugins(
    "engine",
    {
        "onnxruntime": Plugin("serving.engines.onnxruntime_engine:OnnxRuntimeEngine", "serve"),
    },
)
