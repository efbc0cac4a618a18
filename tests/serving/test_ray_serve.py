"""Replicas on a Ray cluster of this machine, behind Ray Serve's proxy."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.paths import ROOT

pytestmark = pytest.mark.soak

READY_S = 180.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("fastapi", reason="needs pip install 'ray[serve]'")
    # On a busy machine Ray's proxy takes longer than the five seconds that it has.
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = str(READY_S)
    import ray
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def replicas(cluster: str, tiny_bundle: Path) -> str:
    """The address of two replicas that answer, deployed as the file of deploy/ says."""
    return deployed(cluster, tiny_bundle, 2)


def deployed(cluster: str, bundle: Path, replicas: int, **scaling: float) -> str:
    """The address of so many replicas, with other numbers for `autoscaling_config`."""
    from ray import serve

    from serving.ray_serve import Replica, application

    [described] = yaml.safe_load((ROOT / "deploy/ray/serve.yaml").read_text())["applications"]
    assert described["import_path"] == f"{application.__module__}:application"
    [deployment] = described["deployments"]
    assert deployment.pop("name") == Replica.name
    deployment["autoscaling_config"].update(scaling)
    settings = {"bundle": str(bundle), "decode_workers": 1, "engine.name": "onnxruntime"}
    application(settings)  # checks them
    serve.run(Replica.options(**deployment).bind(settings))
    assert states() == {"RUNNING": replicas}
    return cluster


def states() -> dict[str, int]:
    """How many replicas there are in each state."""
    from ray import serve

    from serving.ray_serve import Replica

    running = serve.status().applications["default"].deployments[Replica.name]
    return {str(state): count for state, count in running.replica_states.items()}


def become(expected: dict[str, int]) -> bool:
    """Whether the replicas have these states in time."""
    until = time.monotonic() + READY_S
    while states() != expected:
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def embed(address: str, text: str) -> int:
    reply = httpx.post(
        f"{address}/v1/embeddings", json={"model": "tiny", "input": text}, timeout=60
    )
    return reply.status_code


def test_both_replicas_answer(replicas: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda i: embed(replicas, f"text {i}"), range(200)))
    assert codes == [200] * 200
    counts = answered_by_replica(replicas)
    assert len(counts) == 2
    assert sum(counts) == 200
    assert min(counts) > 40


def answered_by_replica(address: str) -> list[float]:
    """The texts that each replica has answered, by its own metrics."""
    found: dict[float, float] = {}
    until = time.monotonic() + READY_S
    while len(found) < 2 and time.monotonic() < until:
        text = httpx.get(f"{address}/metrics", timeout=60).text
        # No two replicas spend the same time.
        seconds = value(text, 'sparseclip_call_seconds_sum{method="/sparseclip.v1.')
        found[seconds] = value(text, 'sparseclip_items_total{code="OK",kind="text"}')
    return list(found.values())


def value(metrics: str, series: str) -> float:
    """The value of the first series whose name begins so."""
    line = next(line for line in metrics.splitlines() if line.startswith(series))
    return float(line.split()[-1])


def test_an_error_is_the_server_s(replicas: str) -> None:
    reply = httpx.post(f"{replicas}/v1/embeddings", json={"input": 7}, timeout=60)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"


def test_load_adds_a_replica_and_idleness_takes_it_away(cluster: str, tiny_bundle: Path) -> None:
    """With shorter delays than the file has: nobody wants to wait for five minutes."""
    from ray import serve

    if "default" in serve.status().applications:
        serve.delete("default")
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 3,
        "look_back_period_s": 3,
    }
    address = deployed(cluster, tiny_bundle, 1, **scaling)
    asking = threading.Event()
    asking.set()

    def ask() -> set[int]:
        codes = set()
        while asking.is_set():
            codes.add(embed(address, "a red circle"))
        return codes

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(ask) for _ in range(6)]
        try:
            assert become({"RUNNING": 2}), states()
        finally:
            asking.clear()
    assert become({"RUNNING": 1}), states()
    assert {code for answer in answers for code in answer.result()} == {200}
    assert embed(address, "a red circle") == 200
