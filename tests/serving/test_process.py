"""F-42 and F-45: how the process ends, and how it refuses to begin."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sparseclip.v1 import embedding_pb2, embedding_pb2_grpc
from tests.serving.harness import assert_clean, embed_request, large_picture
from tests.serving.identity import Authority

ROOT = Path(__file__).resolve().parents[2]


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "serving.cli.main", "serve", *flags]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    return {**os.environ, "PYTHONPATH": path}


class Process:
    """`sparseclip serve` as a process of its own."""

    def __init__(self, bundle: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            command("--bundle", str(bundle), "--port", "0", "--decode-workers", "1", *flags),
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"serving on (\S+)", line)
        assert found, line + self.process.stderr.read()
        self.channel = grpc.insecure_channel(found[1])
        self.stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    def state(self) -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(), timeout=5).status)

    def until_draining(self) -> None:
        """Health says NOT_SERVING, while the process still answers."""
        end = time.monotonic() + 5
        while self.state() != health_pb2.HealthCheckResponse.NOT_SERVING:
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture
def started(tiny_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(tiny_bundle, *getattr(request, "param", ()))
    try:
        yield process
    finally:
        process.channel.close()
        process.process.kill()
        process.process.wait()
        process.process.stderr.close()  # type: ignore[union-attr]


BIG = large_picture(6000)


def work(process: Process, images: int) -> Any:
    """A call in work: its pictures are being decoded."""
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


def test_f42_sigterm_drains(started: Process) -> None:
    assert started.state() == health_pb2.HealthCheckResponse.SERVING
    unary, streaming = work(started, 4), stream(started, 4)
    started.process.send_signal(signal.SIGTERM)
    started.until_draining()
    with pytest.raises(grpc.RpcError) as refused:
        started.stub.Embed(embed_request(texts=("a",)), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert [result.status.code for result in unary.result().results] == [0] * 4
    answers = []
    with pytest.raises(grpc.RpcError) as ended:
        answers.extend(reply.result for reply in streaming)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert started.process.wait(timeout=30) == 0


def test_f42_what_a_stream_has_sent_is_answered(started: Process) -> None:
    streaming = stream(started, 2)
    time.sleep(0.5)
    started.process.send_signal(signal.SIGTERM)
    ids: set[str] = set()
    with pytest.raises(grpc.RpcError):
        ids.update(reply.result.id for reply in streaming if reply.result.status.code == 0)
    assert ids == {"0", "1"}
    assert started.process.wait(timeout=30) == 0


@pytest.mark.parametrize("started", [("--limits-drain-s", "0.5")], indirect=True)
def test_f42_the_drain_is_bounded(started: Process) -> None:
    call = work(started, 9)
    begun = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(timeout=10) == 0
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


def refusal(*flags: str, seconds: float = 5.0) -> str:
    """The line with which a server that cannot start ends in time."""
    begun = time.monotonic()
    result = subprocess.run(
        command("--port", "0", *flags),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    # Five seconds of this process, not of the neighbours on a busy machine.
    assert time.monotonic() - begun < max(seconds, 4 * import_seconds())
    assert result.returncode != 0
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert_clean(lines[0])
    return lines[0]


def import_seconds() -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import serving.server"], env=environment(), check=True)
    return time.monotonic() - begun


def test_f45_port_in_use(tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refusal("--bundle", str(tiny_bundle), "--port", port)
        assert "metrics_port" in refusal("--bundle", str(tiny_bundle), "--metrics-port", port)


def test_f45_bad_key_file(tiny_bundle: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "servers")
    one, two = authority.issue("one"), authority.issue("two")
    bundle = ("--bundle", str(tiny_bundle))
    mixed = ("--tls-certificate", one.certificate_path, "--tls-key", two.key_path)
    assert "tls.key" in refusal(*bundle, *mixed)
    missing = ("--tls-certificate", one.certificate_path, "--tls-key", str(tmp_path / "no.key"))
    assert "tls.key: the file cannot be read" in refusal(*bundle, *missing)


def test_f45_bad_configuration(tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[limits]\nqueue_imags = 3\n")
    line = refusal("--config", str(config))
    assert "limits.queue_imags: unknown key; did you mean queue_images?" in line
    config.write_text("metrics_port = 'high'\n")
    assert "metrics_port: must be int" in refusal("--config", str(config))


def test_f45_missing_or_damaged_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    assert "bundle" in refusal("--bundle", str(tmp_path))
    import shutil

    shutil.copytree(tiny_bundle, tmp_path / "damaged")
    graph = tmp_path / "damaged" / "image.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    assert "image.onnx" in refusal("--bundle", str(tmp_path / "damaged"))


def test_f45_no_gpu(tiny_bundle: Path) -> None:
    line = refusal("--bundle", str(tiny_bundle), "--engine-device", "cuda")
    assert "engine.device" in line


def test_f45_plaintext_beyond_this_machine(tiny_bundle: Path) -> None:
    line = refusal("--bundle", str(tiny_bundle), "--host", "0.0.0.0")
    assert "host: plaintext beyond this machine" in line


def test_f45_bad_tokens(tiny_bundle: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"principals": [{"name": "a", "sha256": ["token-of-a"]}]}))
    line = refusal("--bundle", str(tiny_bundle), "--tokens", str(tokens))
    assert "tokens: a.sha256" in line
