"""`sparseclip serve` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sparseclip.v1 import embedding_pb2_grpc

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
