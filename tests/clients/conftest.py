"""Servers for others' clients, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.support.server_process import Process


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Process]:
    process = Process(tiny_bundle, "--chat", "off", "--http-port", "0")
    try:
        yield process
    finally:
        process.close()
