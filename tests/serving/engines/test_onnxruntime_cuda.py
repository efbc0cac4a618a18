"""Batches are padded to sizes that have buffers and CUDA graphs; here without a CUDA device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.onnx_graph import OnnxGraph
from bundle.store import open_bundle
from serving.engines import _batch_parts
from serving.engines._onnxruntime_cuda import BoundGraph, cuda_provider
from serving.engines.base import EngineConfig


def test_a_padded_batch_gives_the_rows_of_one_that_is_not(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch_parts, "BATCH_SIZES", (1, 2, 4))
    path = open_bundle(tiny_bundle).file("patches.onnx")
    graph = OnnxGraph(path, "patches", threads=1)
    bound = BoundGraph(graph, captured=True, device="cpu")
    noise = np.random.default_rng(0)
    # 3 is padded to 4 after a batch that filled it; 11 runs in parts of 4, 4 and 3.
    for count in (1, 4, 3, 11):
        batch = noise.standard_normal((count, 3, 32, 32), dtype=np.float32)
        expected, outputs = graph.run(batch), bound.run(batch)
        assert list(outputs) == list(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name], array, rtol=1e-5, atol=1e-6)


def test_the_arena_is_bounded_as_configured() -> None:
    for mib, expected in ((0, None), (3, str(3 * 2**20))):
        (name, options), *others = cuda_provider(EngineConfig(memory_mib=mib), captured=True)
        assert (name, options.get("gpu_mem_limit")) == ("CUDAExecutionProvider", expected)
        assert others == ["CPUExecutionProvider"]
