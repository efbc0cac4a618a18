"""A bundle whose towers differ in width, served: what `replaced` heads give."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from serving.in_process import local_server
from sparseclip import Client, Outputs
from tests.support.tiny_model import export_tiny, tiny_model


def test_dense_vectors_are_as_wide_as_their_tower(tmp_path: Path) -> None:
    model = tiny_model(head="replaced", text_width=48)
    bundle = export_tiny(tmp_path / "models", model=model)
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    with local_server(bundle) as address, Client(address) as client:
        info = client.model_info()
        image, text = client.embed([path], ["a dog"], outputs=Outputs(dense=True))
    assert (info.dense_dim, info.text_dense_dim) == (32, 48)
    assert (len(image.dense), len(text.dense)) == (32, 48)
