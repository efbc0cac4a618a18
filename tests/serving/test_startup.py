"""F-45: how the process refuses to begin."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

from grpc_health.v1 import health_pb2

from tests.serving.support.certificates import Authority, write_tokens
from tests.serving.support.running_server import assert_clean
from tests.serving.support.server_process import Process, command, environment, gone


def refusal(*flags: str, seconds: float = 5.0) -> str:
    """The line with which a server that cannot start ends in time, and leaves nothing behind."""
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    result = subprocess.run(
        command("--port", "0", *flags),
        env=environment(mark),
        capture_output=True,
        text=True,
        timeout=60,
    )
    # Five seconds of this process, not of the neighbours on a busy machine.
    took = time.monotonic() - begun
    assert took < seconds or took < 4 * import_seconds()
    assert result.returncode != 0
    assert gone(mark), "a process that it started is alive"
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert_clean(lines[0])
    return lines[0]


def import_seconds() -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import serving.server"], env=environment(), check=True)
    return time.monotonic() - begun


def test_each_port_that_the_system_chose_is_said(tiny_bundle: Path, tmp_path: Path) -> None:
    tokens = str(write_tokens(tmp_path / "tokens.json"))
    ports = ("--metrics-port", "0", "--admin-port", "0")
    server = Process(tiny_bundle, *ports, "--tokens", tokens)
    try:
        assert server.process.stderr is not None
        said = [server.process.stderr.readline().split() for _ in range(2)]
        assert [words[1] for words in said] == ["admin", "metrics"]
        metrics = urllib.request.urlopen(f"http://{said[1][-1]}/metrics", timeout=5).read()
        assert b"sparseclip_serving 1.0" in metrics
        assert said[0][-1] not in (server.address, said[1][-1])
    finally:
        server.close()


def test_f45_port_in_use(tiny_bundle: Path) -> None:
    first = Process(tiny_bundle)
    try:
        answers = first.golden()
        port = first.address.rsplit(":", 1)[1]
        assert f"port {port}" in refusal("--bundle", str(tiny_bundle), "--port", port)
        assert "metrics_port" in refusal("--bundle", str(tiny_bundle), "--metrics-port", port)
        # The one that has the port does not notice.
        assert first.state() == health_pb2.HealthCheckResponse.SERVING
        assert first.golden() == answers
    finally:
        first.close()


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
