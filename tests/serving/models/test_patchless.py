"""A sparse model without patches: codes as ever, and one line where patches are asked for."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from bundle.manifest import NO_PATCHES
from bundle.store import open_bundle, write_bundle
from serving.chat.load_chat_model import PATCHLESS
from serving.cli.main import main
from serving.in_process import local_server
from sparseclip import CallError, Client, Outputs
from tests.serving.support.running_server import PNG


@pytest.fixture
def patchless_bundle(chat_bundle: Path, tmp_path: Path) -> Path:
    """The chat bundle, as if its image tower had no patches."""
    manifest = open_bundle(chat_bundle).manifest
    architecture = dataclasses.replace(manifest.architecture, patch_grid=None, patch_topk=0)
    changed = dataclasses.replace(manifest, architecture=architecture, patch_parity=None)

    def fill(folder: Path) -> None:
        for name in manifest.files:
            if name != "patches.onnx":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(chat_bundle / name, folder / name)

    return write_bundle(tmp_path / "models", changed, fill)


def test_what_needs_patches_says_so(
    patchless_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with local_server(tiny_bundle, chat=False) as address, Client(address) as client:
        [expected] = client.embed([PNG])
    calls = {
        "explain": lambda: client.explain(PNG),
        "patches": lambda: client.embed([PNG], outputs=Outputs(patch_concepts=(1,))),
        "chat": lambda: list(client.chat("What is it?", [PNG])),
    }
    with local_server(patchless_bundle) as address, Client(address) as client:
        info = client.model_info()
        assert (info.kind, info.patch_rows, info.patch_columns) == ("sparse", 0, 0)
        [answer] = client.embed([PNG])
        assert answer.indices.tolist() == expected.indices.tolist()
        assert client.search_concepts("dog").items
        for name, call in calls.items():
            with pytest.raises(CallError) as caught:
                call()
            assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
            problem = PATCHLESS.reason if name == "chat" else NO_PATCHES
            assert caught.value.message.endswith(problem)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    given = [tmp_path / "in", tmp_path / "out", "--bundle", patchless_bundle, "--patch", 1]
    ended = CliRunner().invoke(main, ["export", *map(str, given)])
    assert (ended.exit_code, ended.output) == (1, f"Error: --patch: {NO_PATCHES}\n")
