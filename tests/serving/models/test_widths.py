"""The dense vector is offered only where images and texts share its space."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from PIL import Image

from bundle.manifest import NO_SHARED_DENSE, Manifest
from bundle.store import open_bundle
from bundle.verify import MANIFEST
from serving.cli.main import main
from serving.in_process import local_server
from sparseclip import CallError, Client, Item, Outputs
from tests.support.tiny_model import export_tiny, tiny_model
from training.bundling.bundle_writer import BundleExportError


def test_a_bundle_without_a_shared_dense_vector_offers_none(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "1"
    shutil.copytree(tiny_bundle, bundle)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["architecture"]["dense"] = None
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (40, 30), "red").save(images / "red.png")
    item = Item(source="red", image=images / "red.png")
    dense = Outputs(dense=True)
    with local_server(bundle) as address, Client(address) as client:
        info = client.model_info()
        refused = []
        for call in (
            lambda: client.embed([images / "red.png"], ["a dog"], outputs=dense),
            lambda: list(client.embed_stream([item], outputs=dense)),
        ):
            with pytest.raises(CallError) as caught:
                call()
            refused.append(caught.value)
    assert (info.dense_dim, info.text_dense_dim) == (0, 0)
    for error in refused:
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        assert NO_SHARED_DENSE in error.message
    export = ["export", str(images), str(tmp_path / "out"), "--bundle", str(bundle), "--dense"]
    ended = CliRunner().invoke(main, export)
    assert ended.exit_code == 1
    assert NO_SHARED_DENSE in ended.output
    assert not (tmp_path / "out").exists()


def test_towers_of_two_widths_share_no_dense_vector(tmp_path: Path) -> None:
    model = tiny_model(text_width=48)
    model.image_head.dense_dim = 32
    with pytest.raises(BundleExportError, match="shared_dense"):
        export_tiny(tmp_path, model=model)


def test_a_manifest_without_the_field_keeps_its_digest(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    assert manifest.architecture.dense == "shared"
    older = manifest.to_json().replace('    "dense": "shared",\n', "")
    read = Manifest.from_json(older)
    assert read.architecture.dense is None
    assert read.to_json() == older
