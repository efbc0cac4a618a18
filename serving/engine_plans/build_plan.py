"""Builds a bundle's graphs for an engine and a precision, and compares them with the reference."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engine_plans.gate_inputs import GateInputs, gate_inputs
from serving.engine_plans.parity import THRESHOLDS, agreement, compare, shortfalls
from serving.engine_plans.plan_cache import BuiltGraph, PlanCache, PlanKey, PlanRecord
from serving.engines import ENGINES
from serving.engines.base import (
    REFERENCE,
    BuildTask,
    Engine,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    GraphPlan,
    OutOfMemoryError,
    PatchOutput,
    Region,
)

Say = Callable[[str], None]
"""Shows a line about long work."""

RECIPES: dict[str, tuple[Region, ...]] = {
    "plain": (),
    "head": ("head",),
    "mixed": ("head", "norms", "last_block"),
}
"""Regions in fp32, by the name of the recipe, in the order in which they are tried."""

WHOLE = "fp32"
"""The recipe of a graph that passes with none of RECIPES. The graph `image` must pass with one: it
is most of the work, and the reason to choose a precision."""

_BATCH = 8
"""Items per run: the comparison need not hold the activations of all of them."""

_PATCH_ITEMS = 8
"""Images whose patches are compared: each has P of them."""

_SIZES_OF_GRAPH = 4
"""What an engine writes to build a graph, in sizes of the bundle's own: a copy of it in fp32, which
may be twice as large, and what it makes of that."""


@dataclass(frozen=True)
class ReferenceOutputs:
    """What a bundle is compared on, and what its own graphs give for it; made when it is needed."""

    bundle: Bundle
    cores: int = 0
    images: Path | None = None
    """A folder of the user's images; None takes those that are drawn."""

    @cached_property
    def gate(self) -> GateInputs:
        """Images and texts. Raises GateInputsError."""
        return gate_inputs(self.bundle, self.images)

    def inputs(self, graph: GraphName) -> NDArray[Any]:
        """What a graph is compared on."""
        inputs = self.gate.of(graph)
        return inputs[:_PATCH_ITEMS] if graph == "patches" else inputs

    @cached_property
    def outputs(self) -> dict[GraphName, EngineOutput]:
        """By graph. Raises EngineError."""
        engine = ENGINES.load(REFERENCE.name).open(self.bundle, REFERENCE, self.cores)
        try:
            return {
                graph: run_all(engine, graph, self.inputs(graph)) for graph in self.bundle.graphs
            }
        finally:
            engine.close()


def build_plan(
    reference: ReferenceOutputs, config: EngineConfig, cache: PlanCache, say: Say
) -> PlanRecord:
    """Builds the engine and the precision that `config` names, compares them, and keeps the result.

    A plan that the gate refuses is kept as well, without its files, so that nobody builds it again.
    A failure is not: another time it may succeed. Raises PluginError, EngineError, and OSError for
    a cache that cannot be written.
    """
    bundle, engine = reference.bundle, ENGINES.load(config.name)
    precision = config.chosen_precision
    key = PlanKey.of(bundle, config.name, config.device, precision)
    label = f"{config.name} {precision}"
    if engine.needs_calibration(precision) and reference.gate.calibration_pixels is None:
        raise EngineUnavailableError(
            f"engine.precision: {precision} of {config.name} is built from images of yours:"
            f" sparseclip engine build --engine {config.name} --precision {precision}"
            " --images FOLDER"
        )
    started = time.perf_counter()

    def fill(folder: Path) -> PlanRecord:
        graphs: dict[str, BuiltGraph] = {}
        outputs: dict[GraphName, EngineOutput] = {}
        refused = ""
        for graph in bundle.graphs:
            say(f"{label}: building {graph}")
            built, output = _build_graph(reference, engine, config, graph, folder / graph, say)
            graphs[graph], outputs[graph] = built, output
            if graph == "image" and built.recipe == WHOLE and precision != "fp32":
                refused = f"image: {'; '.join(next(reversed(built.tried.values())))}"
                break
            if precision == "fp32" and built.tried:
                refused = f"{graph}: {'; '.join(next(iter(built.tried.values())))}"
                break
        agreed = 0.0
        if not refused:
            expected, concepts = reference.outputs, bundle.manifest.architecture.concepts
            agreed = agreement(
                (expected["image"], expected["text"]), (outputs["image"], outputs["text"]), concepts
            )
            least = THRESHOLDS[precision].agreement
            if not agreed >= least:
                refused = f"agreement {agreed:g} is below {least:g}"
        if refused:
            for graph in bundle.graphs:
                shutil.rmtree(folder / graph, ignore_errors=True)
        return PlanRecord(
            key=key,
            model=f"{bundle.manifest.name}/{bundle.manifest.version}",
            graphs=graphs,
            agreement=agreed,
            refused=refused,
            images=reference.gate.images,
            build_s=round(time.perf_counter() - started, 1),
            files={},
        )

    record = cache.store(key, fill)
    say(f"{label}: {f'refused: {record.refused}' if record.refused else 'passes the parity gate'}")
    return record


def _build_graph(
    reference: ReferenceOutputs,
    engine: type[Engine],
    config: EngineConfig,
    graph: GraphName,
    folder: Path,
    say: Say,
) -> tuple[BuiltGraph, EngineOutput]:
    """The first recipe with which a graph passes, in `folder`, and its outputs.

    Raises EngineError for a graph that cannot be left in fp32 instead, of which a recipe failed.
    """
    expected = reference.outputs[graph]
    concepts = reference.bundle.manifest.architecture.concepts
    precision, tried = config.chosen_precision, dict[str, list[str]]()
    failure: EngineError | None = None
    # In fp32 every region already is.
    recipes = {"plain": RECIPES["plain"]} if precision == "fp32" else RECIPES
    for recipe, kept in recipes.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        task = BuildTask(
            bundle=reference.bundle,
            graph=graph,
            device=config.device,
            precision=precision,
            kept=kept,
            calibration=reference.gate.calibration_of(graph),
            folder=folder,
        )
        try:
            output = _try(reference, engine, config, task)
        except (EngineUnavailableError, OutOfMemoryError):
            raise  # something is missing here: that says nothing about the graph
        except EngineError as error:
            _check_space(reference.bundle, graph, folder)
            failure, missed = error, [str(error)]
        else:
            parity = compare(expected, output, concepts)
            missed = shortfalls(precision, parity)
            if not missed:
                built = BuiltGraph(
                    recipe=recipe, precision=precision, kept=kept, parity=parity, tried=tried
                )
                return built, output
        say(f"{config.name} {precision}: {graph}, recipe {recipe}: {'; '.join(missed)}")
        tried[recipe] = missed
    if failure is not None and (graph == "image" or precision == "fp32"):
        raise failure
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if graph == "image":  # it is refused: what it would be in fp32 is of no use
        output = expected
    else:  # an engine that compiles must do it here, and not at each start
        task = dataclasses.replace(task, precision="fp32", kept=())
        output = _try(reference, engine, config, task)
    parity = compare(expected, output, concepts)
    whole = BuiltGraph(recipe=WHOLE, precision="fp32", kept=(), parity=parity, tried=tried)
    return whole, output


def _check_space(bundle: Bundle, graph: GraphName, folder: Path) -> None:
    """Raises OSError where a disk is so full that a build may have failed of it: libraries do not
    tell that from other failures."""
    size = bundle.file(f"{graph}.onnx").stat().st_size
    if shutil.disk_usage(folder).free < _SIZES_OF_GRAPH * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _try(
    reference: ReferenceOutputs, engine: type[Engine], config: EngineConfig, task: BuildTask
) -> EngineOutput:
    """Builds one graph, and runs it on what it is compared on."""
    try:
        engine.build(task)
    except ModuleNotFoundError as error:
        raise EngineUnavailableError(ENGINES.missing(config.name, error.name)) from None
    folder = task.folder if any(task.folder.iterdir()) else None
    plan = GraphPlan(precision=task.precision, kept=task.kept, folder=folder)
    return _outputs(reference, engine, config, task.graph, plan)


def _outputs(
    reference: ReferenceOutputs,
    engine: type[Engine],
    config: EngineConfig,
    graph: GraphName,
    plan: GraphPlan,
) -> EngineOutput:
    opened = engine.open(reference.bundle, config, reference.cores, {graph: plan})
    try:
        return run_all(opened, graph, reference.inputs(graph))
    finally:
        opened.close()


def run_all(engine: Engine, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
    """The outputs of many inputs, in batches."""
    parts = [
        engine.run(graph, np.ascontiguousarray(inputs[start : start + _BATCH]))
        for start in range(0, len(inputs), _BATCH)
    ]
    patches = None
    if parts[0].patches is not None:
        maps = [part.patches for part in parts if part.patches is not None]
        patches = PatchOutput(**{name: _joined(maps, name) for name in vars(maps[0])})
    names = ("indices", "values", "active", "norm", "dense")
    return EngineOutput(**{name: _joined(parts, name) for name in names}, patches=patches)


def _joined(parts: list[Any], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])
