"""Batches that the model has no room for, or cannot take."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bundle.onnx_graph import GraphName
from bundle.store import open_bundle
from serving.engines.base import EngineConfig, EngineError, EngineOutput, OutOfMemoryError
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine
from serving.export.columns import ExportRow
from serving.export.inputs.base import LeftOut
from serving.export.inputs.detection import open_input
from serving.export.job import ExportError, OutputConfig
from serving.export.pipeline import Pipeline

ROOM = 3


@dataclasses.dataclass
class Narrow:
    """The real engine, which fails on more than `room` rows."""

    engine: OnnxRuntimeEngine
    error: type[EngineError]
    room: int
    runs: int = 1
    description: str = "narrow"
    sizes: list[int] = dataclasses.field(default_factory=list)

    def run(self, graph: GraphName, inputs: Any) -> EngineOutput:
        self.sizes.append(len(inputs))
        if len(inputs) > self.room:
            raise self.error("no")
        return self.engine.run(graph, inputs)

    def close(self) -> None:
        self.engine.close()


async def rows(bundle_path: Path, images: Path, engine: Narrow) -> list[Any]:
    source = open_input(str(images))
    pipeline = Pipeline(open_bundle(bundle_path), engine, source, OutputConfig(batch=8), 1)
    await pipeline.start()
    try:
        return await pipeline.rows([*source.entries(LeftOut())][3:35])
    finally:
        await pipeline.close()


async def test_short_memory_makes_batches_smaller_for_good(tiny_bundle: Path, images: Path) -> None:
    real = OnnxRuntimeEngine.open(open_bundle(tiny_bundle), EngineConfig())
    narrow = Narrow(real, OutOfMemoryError, ROOM)
    wide = Narrow(real, OutOfMemoryError, 8)
    results = await rows(tiny_bundle, images, narrow)
    expected = await rows(tiny_bundle, images, wide)
    for result, other in zip(results, expected, strict=True):
        assert isinstance(result, ExportRow) == isinstance(other, ExportRow)
        if isinstance(result, ExportRow):
            assert result.output.indices.tolist() == other.output.indices.tolist()
    # Each of the three batches in flight may fail at 8 and at 4; the fourth is cut before it runs.
    assert len([size for size in narrow.sizes if size > ROOM]) <= 6
    assert max(narrow.sizes[-4:]) == 2


async def test_another_failure_costs_one_batch_its_size(tiny_bundle: Path, images: Path) -> None:
    real = OnnxRuntimeEngine.open(open_bundle(tiny_bundle), EngineConfig())
    narrow = Narrow(real, EngineError, ROOM)
    results = await rows(tiny_bundle, images, narrow)
    assert sum(isinstance(row, ExportRow) for row in results) >= 30
    assert len([size for size in narrow.sizes if size > ROOM]) > 2


async def test_a_model_that_fails_on_everything_ends_the_export(
    tiny_bundle: Path, images: Path
) -> None:
    real = OnnxRuntimeEngine.open(open_bundle(tiny_bundle), EngineConfig())
    with pytest.raises(ExportError, match="fails on every row"):
        await rows(tiny_bundle, images, Narrow(real, EngineError, 0))
