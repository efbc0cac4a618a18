"""A real engine behind a real socket: the same outputs, joined runs, and faults of either side."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.onnx_graph import GraphName
from bundle.store import BundleError, open_bundle
from serving.core.config import BatchConfig, ServerConfig
from serving.engine_process.engine_host import EngineHost
from serving.engine_process.joint_runs import JointRuns
from serving.engine_process.remote_engine import RemoteEngine
from serving.engines.base import REFERENCE, EngineError, EngineLostError, OutOfMemoryError
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine
from tests.serving.support.faulty_engine import FaultyEngine

BATCH = BatchConfig(max_images=8, max_texts=8)


def images(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32)


def texts(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(1).integers(1, 500, (count, 16))


@pytest.fixture
def engine(tiny_bundle: Path) -> Iterator[FaultyEngine]:
    opened = FaultyEngine(OnnxRuntimeEngine.open(open_bundle(tiny_bundle), REFERENCE))
    opened.runs = 1
    yield opened
    opened.open.set()


@contextlib.contextmanager
def hosted(engine: FaultyEngine, digest: str, path: Path) -> Iterator[socket.socket]:
    """A host of an engine in a thread of this process; the socket is that on which it listens."""
    host = EngineHost(engine, digest, ServerConfig(batch=BATCH))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        serving = threading.Thread(target=_until_closed, args=(host, listener), daemon=True)
        serving.start()
        yield listener
        listener.shutdown(socket.SHUT_RDWR)
        serving.join(10)


def _until_closed(host: EngineHost, listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        host.serve(listener)


@pytest.fixture
def remote(engine: FaultyEngine, tmp_path: Path) -> Iterator[RemoteEngine]:
    with hosted(engine, "a" * 64, tmp_path / "s"):
        opened = RemoteEngine(tmp_path / "s", "a" * 64)
        yield opened
        opened.close()


@pytest.mark.parametrize(
    ("graph", "inputs"),
    [("image", images(3)), ("patches", images(2)), ("text", texts(5)), ("image", images(1)[:, :0])],
)
def test_outputs_are_those_of_the_engine(
    engine: FaultyEngine, remote: RemoteEngine, graph: GraphName, inputs: Any
) -> None:
    if not inputs.size:
        with pytest.raises(EngineError):
            remote.run(graph, inputs)
        return
    here, there = engine.run(graph, inputs), remote.run(graph, inputs)
    for name in ("indices", "values", "active", "norm", "dense"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name), strict=True)
    assert (here.patches is None) == (there.patches is None)
    if here.patches is not None and there.patches is not None:
        for name in ("indices", "values", "active"):
            mine, theirs = getattr(here.patches, name), getattr(there.patches, name)
            np.testing.assert_array_equal(mine, theirs, strict=True)


def test_memory_grows_with_the_inputs(engine: FaultyEngine, remote: RemoteEngine) -> None:
    for count in (1, 8, 2, 7):
        there = remote.run("image", images(count, seed=count))
        np.testing.assert_array_equal(engine.seen[-count:], images(count, seed=count))
        assert len(there.norm) == count


def test_a_failed_run_is_an_error_and_the_next_one_succeeds(
    engine: FaultyEngine, remote: RemoteEngine
) -> None:
    engine.poison = lambda row: True
    with pytest.raises(EngineError, match="poison"):
        remote.run("image", images(2))
    engine.poison = _no_memory
    with pytest.raises(OutOfMemoryError, match="16 TiB"):
        remote.run("image", images(2))
    engine.poison = lambda row: False
    assert len(remote.run("image", images(2)).norm) == 2


def _no_memory(row: object) -> bool:
    raise OutOfMemoryError("16 TiB")


def test_another_bundle_is_refused(engine: FaultyEngine, tmp_path: Path) -> None:
    with (
        hosted(engine, "a" * 64, tmp_path / "s"),
        pytest.raises(BundleError, match="another version"),
    ):
        RemoteEngine(tmp_path / "s", "b" * 64)


def test_a_lost_process_is_told_apart_and_found_again(engine: FaultyEngine, tmp_path: Path) -> None:
    """The host here is of this process, so its end is that of its connections."""
    path = tmp_path / "s"
    with pytest.raises(EngineLostError):
        RemoteEngine(path, "a" * 64)
    with hosted(engine, "a" * 64, path):
        remote = RemoteEngine(path, "a" * 64)
        connections = list(remote._idle)
        for connection in connections:
            connection._socket.shutdown(socket.SHUT_RDWR)
        assert len(remote.run("image", images(1)).norm) == 1  # on another connection
        assert remote._idle != connections
    path.unlink()
    for connection in remote._idle:
        connection._socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(EngineLostError):
        remote.run("image", images(1))
    with hosted(engine, "b" * 64, path), pytest.raises(EngineLostError, match="another version"):
        remote.run("image", images(1))
    with hosted(engine, "a" * 64, path):
        assert len(remote.run("image", images(1)).norm) == 1
    remote.close()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it does not come to that")


def test_what_waits_runs_together(engine: FaultyEngine) -> None:
    joint = JointRuns(engine, {"image": 8, "patches": 8, "text": 8})
    engine.open.clear()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(joint.run, "image", images(1))
        assert engine.entered.wait(10)
        others = []
        for count in (3, 4, 2, 8):
            waiting = len(joint._waiting["image"])
            others.append(pool.submit(joint.run, "image", images(count, seed=count)))
            wait_until(lambda waiting=waiting: len(joint._waiting["image"]) > waiting)  # type: ignore[misc]
        engine.open.set()
        assert len(first.result(30).norm) == 1
        outputs = [other.result(30) for other in others]
    assert engine.sizes == [1, 7, 2, 8], "3 + 4 share a run, and 2 + 8 are too many"
    for count, output in zip((3, 4, 2, 8), outputs, strict=True):
        alone = engine.engine.run("image", images(count, seed=count))
        np.testing.assert_array_equal(output.indices, alone.indices)
        np.testing.assert_allclose(output.values, alone.values, rtol=1e-5)


def test_a_fault_costs_its_own_run_alone(engine: FaultyEngine) -> None:
    joint = JointRuns(engine, {"image": 8, "patches": 8, "text": 8})
    engine.poison = lambda row: bool(row[0, 0, 0] == 7)
    bad = images(2)
    bad[1, 0, 0, 0] = 7
    engine.open.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(joint.run, "image", images(1))
        assert engine.entered.wait(10)
        good, failed = (
            pool.submit(joint.run, "image", images(2)),
            pool.submit(joint.run, "image", bad),
        )
        wait_until(lambda: len(joint._waiting["image"]) == 2)
        engine.open.set()
        assert len(first.result(30).norm) == 1
        assert len(good.result(30).norm) == 2
        with pytest.raises(EngineError, match="poison"):
            failed.result(30)


def test_as_many_runs_at_once_as_the_engine_takes(engine: FaultyEngine) -> None:
    engine.runs = 2
    joint = JointRuns(engine, {"image": 1, "patches": 1, "text": 1})
    engine.open.clear()
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(joint.run, "image", images(1)) for _ in range(4)]
        wait_until(lambda: joint._running["image"] == 2 and len(joint._waiting["image"]) == 2)
        engine.open.set()
        assert [len(run.result(30).norm) for run in runs] == [1] * 4
    assert engine.sizes == [1] * 4
