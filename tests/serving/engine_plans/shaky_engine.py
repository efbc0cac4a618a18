"""Engines for the tests of the gate: ONNX Runtime with an error that a recipe takes away."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines.base import BuildTask, EngineConfig, EngineError, EngineOutput, Plans
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine


class ShakyEngine(OnnxRuntimeEngine):
    """bf16 loses the strongest concept, unless a region is kept that the test names."""

    cured_by: ClassVar[str] = "head"
    built: ClassVar[list[str]] = []
    """What was built, as `GRAPH RECIPE`."""

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        return ("fp32", "bf16", "int8")

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        return precision == "int8"

    @classmethod
    def identity(cls, device: Device) -> str:
        return "shaky 1"

    @classmethod
    def build(cls, task: BuildTask) -> None:
        cls.built.append(f"{task.graph} {'+'.join(task.kept)}")
        if task.precision == "bf16" and cls.cured_by == "nothing but text" == task.graph:
            raise EngineError("no")
        (task.folder / "note").write_text(task.precision)

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        stripped = {
            graph: dataclasses.replace(plan, folder=None) for graph, plan in (plans or {}).items()
        }
        engine = super().open(bundle, dataclasses.replace(config, device="cpu"), cores, stripped)
        engine.plans = plans or {}  # type: ignore[attr-defined]
        return engine

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        output = super().run(graph, inputs)
        plan = self.plans[graph]  # type: ignore[attr-defined]
        if plan.precision == "fp32" or self.cured_by in plan.kept:
            return output
        strongest = output.values == output.values.max(axis=1, keepdims=True)
        return dataclasses.replace(output, values=np.where(strongest, 0, output.values))
