"""An export on a Ray cluster of several nodes, one of which is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.serving.export.command import COUNT, files, options, run

pytestmark = pytest.mark.soak  # three nodes take most of a minute to start


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that works at nothing; nodes are added by the test."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_lost_node_loses_nothing(
    cluster: Cluster, images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    arguments = [*options(tiny_bundle, rows=1), "--dense"]
    whole, output = tmp_path / "whole", tmp_path / "ray"
    run(images, whole, *arguments)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    lost: list[int] = []

    def lose() -> None:
        while not list(output.glob("receipts/*.json")):
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        lost.append(len(list(output.glob("receipts/*.json"))))

    loser = threading.Thread(target=lose)
    loser.start()
    arguments += ["--runner", "ray", "--address", cluster.address, "--workers", 2]
    run(images, output, *arguments)
    loser.join()
    assert 0 < lost[0] < COUNT
    assert files(output) == files(whole)
    assert run("verify", output) == "whole\n"
