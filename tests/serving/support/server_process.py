"""`sparseclip serve` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sparseclip.v1 import embedding_pb2_grpc
from tests.serving.support.running_server import PNG, assert_clean, embed_request
from tests.support.paths import ROOT

MARK = "SPARSECLIP_TEST"


REFERENCE_FLAGS = ("--engine", "onnxruntime", "--precision", "fp32")
"""Nothing is measured before the server starts, and its outputs are those that tests know."""


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "serving.cli.main", "serve", *REFERENCE_FLAGS, *flags]


def environment(mark: str = "") -> dict[str, str]:
    """That of a server; `mark` is inherited by whatever it starts."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "protos")])
    return {**os.environ, "PYTHONPATH": path, MARK: mark}


def marked(mark: str) -> list[int]:
    """Processes that are alive with this mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARK) == mark:
                found.append(process.pid)
    return found


def gone(mark: str, seconds: float = 10.0) -> bool:
    """Whether all processes with this mark end in time."""
    end = time.monotonic() + seconds
    while marked(mark):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Process:
    """`sparseclip serve` as a process of its own."""

    def __init__(self, bundle: Path, *flags: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            command("--bundle", str(bundle), "--port", "0", "--decode-workers", "1", *flags),
            env=environment(self.mark),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"serving on (\S+)", line)
        assert found, line + self.process.stderr.read()
        self.address = found[1]
        http = re.search(r"and (http\S+)", line)
        self.http_address = http[1] if http else None
        self.channel = grpc.insecure_channel(self.address)
        self.stub: Any = embedding_pb2_grpc.EmbeddingServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    def state(self) -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(), timeout=5).status)

    def golden(self) -> list[bytes]:
        """Outputs of a normal request, without what depends on time."""
        request = embed_request(PNG, texts=("a red circle",))
        results = self.stub.Embed(request, timeout=30, wait_for_ready=True).results
        for result in results:
            assert result.status.code == 0, result.status.message
            result.ClearField("timings")
        return [result.SerializeToString(deterministic=True) for result in results]

    def until_draining(self) -> None:
        """Health says NOT_SERVING, while the process still answers."""
        end = time.monotonic() + 5
        while self.state() != health_pb2.HealthCheckResponse.NOT_SERVING:
            assert time.monotonic() < end
            time.sleep(0.005)

    def ended(self, seconds: float) -> int:
        """The exit status. What it started has ended too, and it said nothing untoward."""
        code = self.process.wait(timeout=seconds)
        assert gone(self.mark), "a process that it started is alive"
        assert self.process.stderr is not None
        for line in self.process.stderr.read().splitlines():
            assert_clean(line)
        return code

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.channel.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
