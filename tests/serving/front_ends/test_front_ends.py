"""Front ends over one engine: real processes, and F-43: those that are killed are replaced."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2

from serving.core.config import load_config
from serving.core.errors import StartupError
from serving.rpc.open_inference import open_inference_pb2_grpc
from sparseclip.v1 import embedding_pb2_grpc
from tests.serving.rpc.open_inference.infer_requests import arrays, infer_request
from tests.serving.support.running_server import PNG, embed_request
from tests.serving.support.server_process import Process, gone
from tests.serving.test_startup import refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
FLAGS = ("--chat", "off", "--front-ends", "2")


@pytest.fixture(scope="module")
def answers(tiny_bundle: Path) -> list[bytes]:
    """What one process that does all answers."""
    process = Process(tiny_bundle)
    try:
        return process.golden()
    finally:
        process.close()


@pytest.fixture
def started(tiny_bundle: Path) -> Iterator[Process]:
    process = Process(tiny_bundle, *FLAGS)
    try:
        yield process
    finally:
        process.close()
        assert gone(process.mark), "what the supervisor started outlives it"


def children(process: Process, module: str) -> list[psutil.Process]:
    """The processes of a module that the supervisor has started."""
    return [
        child
        for child in psutil.Process(process.process.pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and module in child.cmdline()
    ]


def engine_of(process: Process) -> psutil.Process:
    [engine] = children(process, "serving.engine_process.engine_host")
    return engine


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def new_connection(process: Process) -> Any:
    """A stub with a connection of its own, which goes to either front end."""
    channel = grpc.insecure_channel(process.address, [("grpc.use_local_subchannel_pool", 1)])
    return embedding_pb2_grpc.EmbeddingServiceStub(channel)  # type: ignore[no-untyped-call]


def test_front_ends_answer_over_http(tiny_bundle: Path) -> None:
    process = Process(tiny_bundle, *FLAGS, "--http-port", "0")
    try:
        address = process.http_address
        assert address is not None
        [result] = process.stub.Embed(embed_request(PNG), timeout=30).results
        body = {"inputs": [{"image": base64.b64encode(PNG).decode()}]}
        pids = set()
        for _ in range(20):  # a connection each, which goes to either front end
            reply = httpx.post(f"{address}/v1/embed", json=body, timeout=30).json()
            assert reply["results"][0]["sparse"]["indices"] == list(result.sparse.indices)
            port = int(address.rsplit(":", 1)[1])
        for child in children(process, "serving.front_ends.front_end"):
            listening = [c.laddr.port for c in child.net_connections() if c.status == "LISTEN"]
            assert port in listening
            pids.add(child.pid)
        assert len(pids) == 2
    finally:
        process.close()
    assert gone(process.mark)


def test_front_ends_answer_the_open_inference_protocol(started: Process) -> None:
    service = open_inference_pb2_grpc.GRPCInferenceServiceStub(started.channel)  # type: ignore[no-untyped-call]
    reply = service.ModelInfer(infer_request("image", [PNG], "values"), timeout=30)
    [result] = started.stub.Embed(embed_request(PNG), timeout=30).results
    values = arrays(reply)["values"][0]
    assert values[values > 0].tolist() == list(result.sparse.values)


def test_front_ends_answer_as_one_process_does(started: Process, answers: list[bytes]) -> None:
    assert len(children(started, "serving.front_ends.front_end")) == 2
    assert started.golden() == answers
    for _ in range(8):
        reply = new_connection(started).Embed(embed_request(PNG), timeout=30)
        assert reply.results[0].status.code == 0
    memory = [child.memory_maps() for child in children(started, "serving.front_ends.front_end")]
    libraries = [Path(part.path).name for parts in memory for part in parts]
    assert not [name for name in libraries if "onnxruntime" in name], "a front end has an engine"


def test_f43_a_killed_engine_is_started_again(started: Process, answers: list[bytes]) -> None:
    before = engine_of(started)
    before.send_signal(signal.SIGSTOP)  # so that a run is in flight
    call = started.stub.Embed.future(embed_request(PNG), timeout=60)
    time.sleep(0.5)
    assert not call.done()
    before.kill()
    result = call.result().results[0]
    assert result.status.code == grpc.StatusCode.UNAVAILABLE.value[0], result.status
    wait_for(lambda: bool(children(started, "serving.engine_process.engine_host")))
    assert engine_of(started).pid != before.pid
    wait_for(lambda: started.state() == SERVING and _answered(started))
    assert started.golden() == answers


def test_f43_the_engine_opens_the_version_that_is_served(tiny_bundle: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_bundle.parent, tmp_path / "model")
    process = Process(model, *FLAGS)
    try:
        (model / "CURRENT").write_text("another\n")
        engine_of(process).kill()
        wait_for(lambda: _answered(process))
    finally:
        process.close()


def _answered(process: Process) -> bool:
    reply = process.stub.Embed(embed_request(PNG), timeout=30, wait_for_ready=True)
    return bool(reply.results[0].status.code == 0)


def test_f43_a_killed_front_end_is_replaced(started: Process, answers: list[bytes]) -> None:
    before = {child.pid for child in children(started, "serving.front_ends.front_end")}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    # A call that waits for a connection gets one when a new front end is ready, and no sooner.
    assert started.golden() == answers
    wait_for(
        lambda: not before & {c.pid for c in children(started, "serving.front_ends.front_end")}
    )
    assert new_connection(started).Embed(embed_request(PNG), timeout=30, wait_for_ready=True)


def test_f42_a_signal_drains_all(started: Process) -> None:
    for child in psutil.Process(started.process.pid).children():
        child.send_signal(signal.SIGTERM)  # as a supervisor of the system does to the whole group
    call = started.stub.Embed.future(embed_request(*[PNG] * 16), timeout=60)
    time.sleep(0.05)
    started.process.send_signal(signal.SIGTERM)
    assert [result.status.code for result in call.result().results] == [0] * 16
    assert started.process.wait(timeout=30) == 0
    assert gone(started.mark)


def test_f42_a_second_signal_ends_all_at_once(started: Process) -> None:
    engine_of(started).send_signal(signal.SIGSTOP)
    call = started.stub.Embed.future(embed_request(PNG), timeout=60)
    time.sleep(0.3)
    started.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    begun = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=10) == 1
    assert time.monotonic() - begun < 5
    with pytest.raises(grpc.RpcError):
        call.result()


def test_a_killed_supervisor_leaves_no_process(started: Process) -> None:
    started.process.kill()
    assert gone(started.mark, seconds=30)


def test_f45_a_start_that_fails_is_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    assert "bundle" in refusal("--bundle", str(tmp_path / "none"), *FLAGS, seconds=20)
    first = Process(tiny_bundle, *FLAGS)
    try:
        port = first.address.rsplit(":", 1)[1]
        taken = refusal("--bundle", str(tiny_bundle), *FLAGS, "--port", port, seconds=20)
        assert f"port {port}" in taken
    finally:
        first.close()
    single = Process(tiny_bundle)
    try:
        port = single.address.rsplit(":", 1)[1]
        metrics = refusal("--bundle", str(tiny_bundle), *FLAGS, "--metrics-port", port, seconds=30)
        assert "metrics_port" in metrics
    finally:
        single.close()


def test_f45_temporary_files_with_a_long_name_are_named(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a socket of Unix has 107 bytes at most."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    assert "$TMPDIR" in refusal("--bundle", str(tiny_bundle), "--port", "0", *FLAGS)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"chat": "auto"}, "front_ends"),
        ({"admin_port": 1, "tokens": "t"}, "front_ends"),
        ({"socket": "s"}, "front_ends"),
        ({"metrics_port": 65_535}, "metrics_port"),
        ({"front_ends": 257}, "front_ends"),
    ],
)
def test_what_front_ends_cannot_do_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(StartupError, match=field):
        load_config(None, {"chat": "off", "front_ends": 2, **changes})
