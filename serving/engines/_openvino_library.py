"""OpenVINO and NNCF, without the telemetry that both begin when they are imported."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


def import_quietly(name: str) -> ModuleType:
    """Imports `openvino` or `nncf`. Raises ModuleNotFoundError.

    They report each start over the network, and leave a file in the user's home, by the package
    openvino_telemetry. Where that cannot be imported they do without.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    return importlib.import_module(name)
