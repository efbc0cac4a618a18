"""The folder that an engine opens for a graph, for engines that open only what they compiled."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bundle.atomic import work_directory
from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engines.base import BuildTask, Engine, EngineConfig, GraphPlan


def built_folder(
    engine: type[Engine],
    bundle: Bundle,
    config: EngineConfig,
    graph: GraphName,
    plan: GraphPlan,
    stack: ExitStack,
) -> Path:
    """The folder that `plan` names. Where it names none, what `engine` builds now, which takes
    minutes, in a folder that is there until `stack` ends."""
    if plan.folder is not None:
        return plan.folder
    folder = stack.enter_context(work_directory())
    engine.build(
        BuildTask(
            bundle=bundle,
            graph=graph,
            device=config.device,
            precision=plan.precision,
            kept=plan.kept,
            calibration=None,
            folder=folder,
        )
    )
    return folder
