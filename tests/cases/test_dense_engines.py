"""Every engine runs the graphs of a dense model, and rows that no model gives are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.onnx_graph import OnnxGraph
from bundle.plugins import PluginError
from bundle.store import open_bundle
from serving.engine_plans.open_engine import open_engine
from serving.engines import ENGINES, SLOW_BUILDS
from serving.engines.base import EngineConfig, EngineError, EngineOutput, EngineUnavailableError
from serving.engines.outputs import OutputRow, rows_of
from tests.support.tiny_dense import DENSE_DIM

pytestmark = pytest.mark.kind("K8")

BAD: dict[str, Any] = {"NaN": np.nan, "infinity": np.inf, "no direction": 0.0}


@pytest.mark.parametrize(
    "engine",
    [
        # They compile a graph for many seconds.
        pytest.param(name, marks=pytest.mark.soak if name in SLOW_BUILDS else ())
        for name in ENGINES.names
    ],
)
def test_an_engine_gives_vectors(engine: str, dense_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(dense_bundle)
    try:
        config = EngineConfig(name=engine, precision="fp32", threads=1, cache=str(tmp_path))
        opened = open_engine(bundle, config, 1)
    except (PluginError, EngineUnavailableError) as error:
        pytest.skip(str(error))
    pixels = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    tokens = bundle.tokenizer.encode(["a dog", "red", "a blue square"])
    for graph, inputs in (("image", pixels), ("text", tokens)):
        reference = OnnxGraph(bundle.file(f"{graph}.onnx"), graph, threads=1, sparse=False)  # type: ignore[arg-type]
        expected = reference.run(inputs)["dense"]
        output = opened.run(graph, inputs)  # type: ignore[arg-type]
        rows = rows_of(output, 3, bundle.manifest.architecture, graph)  # type: ignore[arg-type]
        for row, vector in zip(rows, expected, strict=True):
            assert isinstance(row, OutputRow)
            np.testing.assert_allclose(row.dense, vector, atol=1e-5)
            assert row.norm == pytest.approx(float(np.linalg.norm(vector)), rel=1e-5)
            assert (row.active, len(row.indices), row.patches) == (None, 0, None)
    opened.close()


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
def test_a_vector_that_no_model_gives_fails_alone(value: float, dense_bundle: Path) -> None:
    architecture = open_bundle(dense_bundle).manifest.architecture
    vectors = np.ones((3, DENSE_DIM), np.float32)
    vectors[1] = value
    rows = rows_of(EngineOutput.of_dense(vectors), 3, architecture, "image")
    assert [isinstance(row, EngineError) for row in rows] == [False, True, False]
    with pytest.raises(EngineError):
        rows_of(EngineOutput.of_dense(vectors[:, 1:]), 3, architecture, "image")
