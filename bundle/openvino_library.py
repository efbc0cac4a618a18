"""OpenVINO and NNCF, without what they begin when they are imported."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_LEFT_OUT = ("openvino_telemetry", "openvino.tools.ovc")
"""The first reports each start over the network, and leaves a file in the user's home. The second
converts models of other libraries, and replaces the handlers of the standard logging module. Both
libraries do without a module that cannot be imported."""


def import_quietly(name: str) -> ModuleType:
    """Imports `openvino` or `nncf`. Raises ModuleNotFoundError."""
    left_out = [entry for entry in _LEFT_OUT if entry not in sys.modules]
    for entry in left_out:
        sys.modules[entry] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        for entry in left_out:
            del sys.modules[entry]
