"""A server inside the process of a command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.core.errors import StartupError
from serving.in_process import local_server
from sparseclip import Client
from tests.serving.support.running_server import PNG


def test_local_server(tiny_bundle: Path) -> None:
    with local_server(tiny_bundle) as address:
        directory = Path(address.removeprefix("unix:")).parent
        assert os.stat(directory).st_mode & 0o077 == 0
        with Client(address) as client:
            reply = client.embed(images=[PNG], texts=["a dog"])
            assert [item.status.ok for item in reply.items] == [True, True]
    assert not directory.exists()


def test_local_server_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="bundle"), local_server(tmp_path):
        pass
