"""How onnxruntime runs a bundle: threads of a run, runs at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bundle.store import open_bundle
from serving.engines import ENGINES, base
from serving.engines.base import EngineConfig, EngineUnavailableError
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine


def threads(engine: OnnxRuntimeEngine) -> int:
    return int(engine._graphs["image"].session.get_session_options().intra_op_num_threads)


@pytest.mark.parametrize(
    ("config", "small", "expected"),
    [
        (EngineConfig(), True, (1, 4)),
        (EngineConfig(), False, (4, 1)),
        (EngineConfig(threads=2), True, (2, 2)),
        (EngineConfig(threads=3), False, (3, 2)),
        (EngineConfig(runs=1), True, (1, 1)),
        (EngineConfig(threads=2, runs=5), False, (2, 5)),
    ],
)
def test_threads_and_runs_use_the_cores(
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: EngineConfig,
    small: bool,
    expected: tuple[int, int],
) -> None:
    if not small:
        monkeypatch.setattr(base, "SMALL_GRAPH_BYTES", 1)
    engine = OnnxRuntimeEngine.open(open_bundle(tiny_bundle), config, cores=4)
    assert (threads(engine), engine.runs) == expected
    engine.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_far_more_threads_than_cores_are_refused(tiny_bundle: Path, name: str) -> None:
    """A thousand runs of a thousand threads took 15 GiB and never ended."""
    engine = ENGINES.load(name)
    config = EngineConfig(threads=1000, runs=1000)
    with pytest.raises(EngineUnavailableError, match=r"^engine\.threads, engine\.runs: 1,000 runs"):
        engine.open(open_bundle(tiny_bundle), config, cores=2)
    engine.open(open_bundle(tiny_bundle), EngineConfig(threads=8, runs=8), cores=2).close()


def test_runs_at_the_same_time_do_not_mix(tiny_bundle: Path) -> None:
    engine = OnnxRuntimeEngine.open(open_bundle(tiny_bundle), EngineConfig(threads=1, runs=4))
    noise = np.random.default_rng(0)
    batches = [noise.standard_normal((4, 3, 32, 32), dtype=np.float32) for _ in range(8)]
    alone = [engine.run("image", batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            together = list(pool.map(lambda batch: engine.run("image", batch), batches))
            for output, expected in zip(together, alone, strict=True):
                np.testing.assert_array_equal(output.indices, expected.indices)
                np.testing.assert_array_equal(output.values, expected.values)
                np.testing.assert_array_equal(output.dense, expected.dense)
    engine.close()
