"""The training captions nearest to an image, from a bundle that has them to the client."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from bundle.captions import CAPTIONS_FILE, write_captions
from bundle.store import open_bundle, write_bundle
from serving.in_process import local_server
from sparseclip import Client, Outputs
from tests.support.tiny_model import CONCEPTS

TEXTS = [f"caption {i}" for i in range(300)]


def with_captions(tiny_bundle: Path, models: Path) -> Path:
    """The tiny bundle as version 2 of itself, with captions of random codes."""
    source = open_bundle(tiny_bundle)
    noise = np.random.default_rng(0).standard_normal((len(TEXTS), CONCEPTS)) - 1

    def fill(folder: Path) -> None:
        for name in source.manifest.files:
            shutil.copyfile(source.root / name, folder / name)
        write_captions(folder / CAPTIONS_FILE, TEXTS, np.maximum(noise, 0).astype(np.float32))

    return write_bundle(models, dataclasses.replace(source.manifest, version="2"), fill)


def test_the_nearest_captions_come_with_an_image(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = with_captions(tiny_bundle, tmp_path / "models")
    captions = open_bundle(bundle).captions
    assert captions is not None
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    with local_server(bundle) as address, Client(address) as client:
        outputs = Outputs(captions=4)
        image, text = client.embed([path], ["a dog"], outputs=outputs)
        explained = client.explain(path, captions=2)
        plain = client.explain(path)
    expected = captions.nearest(image.indices, image.values, 4)
    assert len(expected) == 4
    assert [caption.text for caption in image.captions] == [text for text, _ in expected]
    found = [caption.similarity for caption in image.captions]
    np.testing.assert_allclose(found, [cosine for _, cosine in expected], rtol=1e-5)
    assert [c.text for c in explained.captions] == [c.text for c in image.captions[:2]]
    assert not text.captions
    assert not plain.captions


def test_a_bundle_without_captions_names_none(tiny_bundle: Path) -> None:
    assert open_bundle(tiny_bundle).captions is None
