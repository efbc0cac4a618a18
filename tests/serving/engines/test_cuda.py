"""The engine on a CUDA device gives the codes of a CPU (F-32's bounds). `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.codes import SparseCodes
from bundle.store import open_bundle
from serving.engines.base import EngineConfig
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine

pytestmark = pytest.mark.gpu


def test_codes_are_those_of_a_cpu(tiny_bundle: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    bundle = open_bundle(tiny_bundle)
    concepts = bundle.manifest.architecture.concepts
    pixels = np.random.default_rng(0).standard_normal((16, 3, 32, 32), dtype=np.float32)
    codes = []
    for device in ("cpu", "cuda"):
        engine = OnnxRuntimeEngine.open(bundle, EngineConfig(device=device))  # type: ignore[arg-type]
        output = engine.run("image", pixels)
        sparse = SparseCodes.from_topk(output.indices, output.values, concepts=concepts)
        codes.append(sparse.to_dense())
        engine.close()
    cpu, cuda = codes
    cosine = (cpu * cuda).sum(1) / (np.linalg.norm(cpu, axis=1) * np.linalg.norm(cuda, axis=1))
    both, either = ((cpu > 0) & (cuda > 0)).sum(1), ((cpu > 0) | (cuda > 0)).sum(1)
    assert cosine.min() >= 0.9995
    assert (both / either).min() >= 0.98
