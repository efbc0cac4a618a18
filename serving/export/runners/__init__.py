"""Where an export's workers run: the contract in base.py, one file for each runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.export.runners.base import Runner

RUNNERS: Plugins[Runner] = Plugins(
    "runner",
    {
        "local": Plugin("serving.export.runners.local_runner:LocalRunner", "export"),
        "processes": Plugin("serving.export.runners.process_runner:ProcessRunner", "export"),
        "ray": Plugin("serving.export.runners.ray_runner:RayRunner", "ray"),
    },
)


def default_runner(workers: int) -> str:
    """The runner for that many workers when the user names none: one worker needs no process of
    its own, several do."""
    return "local" if workers == 1 else "processes"
