"""An export on a Ray of this machine, one of whose workers is killed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from tests.serving.export.command import files, options, run


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=2)
    yield
    ray.shutdown()


def actors() -> list[psutil.Process]:
    """Processes of this Ray that are export workers."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "_Actor" in " ".join(child.cmdline())]


@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_loses_nothing(images: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = [*options(tiny_bundle, rows=1), "--dense"]
    whole, output = tmp_path / "whole", tmp_path / "ray"
    run(images, whole, *arguments)
    killed: list[int] = []

    def kill() -> None:
        while not list(output.glob("receipts/*.json")):
            time.sleep(0.01)
        victim = actors()[0]
        victim.send_signal(signal.SIGKILL)
        killed.append(victim.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    run(images, output, *arguments, "--runner", "ray", "--workers", 2)
    killer.join()
    assert killed
    assert files(output) == files(whole)
    assert run("verify", output) == "whole\n"


def test_a_cluster_that_is_not_there(images: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    printed = run(images, tmp_path / "out", "--address", "x", *options(tiny_bundle), code=2)
    assert "--address: the runner local has no cluster" in printed
    arguments = ["--runner", "ray", "--address", "127.0.0.1:1", *options(tiny_bundle)]
    printed = run(images, tmp_path / "out", *arguments, code=1)
    assert "Error: --address: 127.0.0.1:1: " in printed
