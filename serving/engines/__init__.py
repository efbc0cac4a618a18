"""Engines run a bundle's graphs: base.py has the contract, and each engine has a file.

An engine is a class that follows `base.Engine`, and a line in this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.engines.base import Engine

Device = Literal["cpu", "cuda"]
"""Where graphs run. An engine raises EngineUnavailableError for a device that it cannot use."""

ENGINES: Plugins[Engine] = Plugins(
    "engine",
    {
        "onnxruntime": Plugin("serving.engines.onnxruntime_engine:OnnxRuntimeEngine", "serve"),
    },
)
