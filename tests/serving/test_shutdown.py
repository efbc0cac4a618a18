"""F-42: how the process ends."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2

from sparseclip.v1 import embedding_pb2
from tests.serving.support.running_server import assert_clean, embed_request, large_image
from tests.serving.support.server_process import Process, environment


@pytest.fixture
def started(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(tiny_bundle, *getattr(request, "param", ()))
    try:
        yield process
    finally:
        process.close()


def assert_begins_again(bundle: Path, before: Process, answers: list[bytes]) -> None:
    """Another process takes the port at once and answers as the one before."""
    after = Process(bundle, "--port", before.address.rsplit(":", 1)[1])
    try:
        assert after.address == before.address
        assert after.state() == health_pb2.HealthCheckResponse.SERVING
        assert after.golden() == answers
    finally:
        after.close()


BIG = large_image(6000)


def work(process: Process, images: int) -> Any:
    """A call in flight: its images are being decoded."""
    request = embed_request(*[BIG] * images)
    call = process.stub.Embed.future(request, timeout=60)
    time.sleep(0.3)
    assert not call.done()
    return call


def stream(process: Process, images: int) -> Any:
    start = embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())
    items = [
        embedding_pb2.EmbedStreamRequest(input=embedding_pb2.EmbedInput(id=str(i), image=BIG))
        for i in range(images)
    ]

    def messages() -> Iterator[embedding_pb2.EmbedStreamRequest]:
        yield start
        yield from items
        time.sleep(20)  # the caller has more to send, later

    call = process.stub.EmbedStream(messages(), timeout=60)
    time.sleep(0.3)
    return call


def test_f42_sigterm_drains(started: Process, tiny_bundle: Path) -> None:
    assert started.state() == health_pb2.HealthCheckResponse.SERVING
    answers = started.golden()
    unary, streaming = work(started, 4), stream(started, 4)
    started.process.send_signal(signal.SIGTERM)
    started.until_draining()
    with pytest.raises(grpc.RpcError) as refused:
        started.stub.Embed(embed_request(texts=("a",)), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert_clean(refused.value.details())
    assert [result.status.code for result in unary.result().results] == [0] * 4
    replies = []
    with pytest.raises(grpc.RpcError) as ended:
        replies.extend(reply.result for reply in streaming)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert_clean(ended.value.details())
    assert started.ended(30) == 0
    assert_begins_again(tiny_bundle, started, answers)


def test_f42_sigterm_drains_http(tiny_bundle: Path) -> None:
    process = Process(tiny_bundle, "--http-port", "0")
    try:
        body = {"inputs": [{"image": base64.b64encode(BIG).decode()}] * 4}
        with (
            ThreadPoolExecutor() as pool,
            httpx.Client(base_url=process.http_address or "", timeout=60) as client,
        ):
            assert client.get("/readyz").status_code == 200
            call = pool.submit(client.post, "/v1/embed", json=body)
            time.sleep(0.3)
            assert not call.done()
            process.process.send_signal(signal.SIGTERM)
            process.until_draining()
            assert client.get("/readyz").status_code == 503
            refused = client.post("/v1/embed", json={"inputs": [{"text": "a"}]})
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            assert [r["active"] > 0 for r in call.result().json()["results"]] == [True] * 4
        assert process.ended(30) == 0
    finally:
        process.close()


def test_f42_what_a_stream_has_sent_is_answered(started: Process) -> None:
    streaming = stream(started, 2)
    time.sleep(0.5)
    started.process.send_signal(signal.SIGTERM)
    ids: set[str] = set()
    with pytest.raises(grpc.RpcError):
        ids.update(reply.result.id for reply in streaming if reply.result.status.code == 0)
    assert ids == {"0", "1"}
    assert started.ended(30) == 0


def test_f42_a_stream_that_has_sent_nothing_holds_nothing_up(started: Process) -> None:
    silent = started.stub.EmbedStream(_nothing_yet(), timeout=60)
    assert started.golden()  # the server has seen the stream, which came before
    started.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as ended:
        next(silent)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "the server is shutting down"
    assert started.ended(10) == 0


def _nothing_yet() -> Iterator[embedding_pb2.EmbedStreamRequest]:
    time.sleep(20)
    yield embedding_pb2.EmbedStreamRequest()


@pytest.mark.parametrize("started", [("--limits-drain-s", "0.5")], indirect=True)
def test_f42_the_drain_is_bounded(started: Process) -> None:
    call = work(started, 32)
    begun = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    assert started.ended(10) == 0
    assert time.monotonic() - begun < 8
    with pytest.raises(grpc.RpcError):
        call.result()


def test_f42_a_second_sigterm_ends_it_now(started: Process) -> None:
    call = work(started, 9)  # held: a call that nobody holds is cancelled, and the drain is over
    started.process.send_signal(signal.SIGTERM)
    started.until_draining()
    begun = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=5) != 0
    assert time.monotonic() - begun < 2
    with pytest.raises(grpc.RpcError):
        call.result()
    assert started.ended(5) != 0


def test_f42_a_thread_that_loads_a_model_holds_nothing_up(tiny_bundle: Path) -> None:
    hung = """
import asyncio, time
from serving import lifecycle, server
from serving.core.config import ServerConfig
from serving.engines.base import REFERENCE

class Loading(server.Server):
    async def start(self):
        await super().start()
        self.thread = asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)

server.Server = Loading
lifecycle.serve(ServerConfig(bundle={bundle!r}, port=0, engine=REFERENCE))
"""
    code = hung.format(bundle=str(tiny_bundle))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process:
        assert "serving on" in process.stderr.readline()
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert time.monotonic() - begun < 15
        last = process.stderr.read().splitlines()[-1]
        assert last == "sparseclip: stopped, though a thread was still at work"


def test_f42_a_killed_server_leaves_no_process(started: Process, tiny_bundle: Path) -> None:
    answers = started.golden()
    call = work(started, 2)
    started.process.kill()
    with pytest.raises(grpc.RpcError) as ended:
        call.result()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert started.ended(5) == -signal.SIGKILL
    assert_begins_again(tiny_bundle, started, answers)
