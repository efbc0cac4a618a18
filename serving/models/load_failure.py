"""Why a server, or the process of its engine, cannot start with a bundle."""

from __future__ import annotations

from pathlib import Path

from bundle.plugins import PluginError
from bundle.store import BundleError
from serving.core.errors import StartupError, one_line
from serving.engines.base import EngineError, EngineUnavailableError

LOAD_ERRORS = (PluginError, BundleError, EngineError, OSError)
"""What opening a bundle and its engine raises."""


def load_failure(error: Exception, path: Path) -> StartupError:
    """One of LOAD_ERRORS for the person who starts it; the bundle is named where it is at fault."""
    if isinstance(error, EngineUnavailableError | PluginError):
        return StartupError(one_line(error))
    return StartupError(f"bundle: {path.name}: {one_line(error)}")
