"""infinity's two clients, unmodified, with the vectors of our own client."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from sparseclip import Client, Outputs
from tests.clients.client_program import run
from tests.serving.support.running_server import encoded_image
from tests.serving.support.server_process import Process

pytestmark = pytest.mark.clients

TEXTS = ["a cat under a tree", "dog"]


def test_it_embeds_what_our_own_client_does(server: Process) -> None:
    image = Image.open(io.BytesIO(encoded_image(3, (64, 64))))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG")  # as the client encodes its images
    lossless = io.BytesIO()
    image.save(lossless, "PNG")
    given = {
        "address": server.http_address,
        "texts": TEXTS,
        "images": [base64.b64encode(lossless.getvalue()).decode()],
    }
    told = run("infinity_calls.py", given=given)
    with Client(server.address) as own:
        version = own.model_info().model
        outputs = Outputs(dense=True)
        rows = own.embed([], TEXTS, outputs=outputs).to_dense()
        [picture, drawn] = own.embed(
            [jpeg.getvalue(), lossless.getvalue()], outputs=outputs
        ).to_dense()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert told["health"]
    assert told["width"] == rows.shape[1]
    np.testing.assert_allclose(told["texts"], rows, atol=1e-5)
    np.testing.assert_allclose(told["plain"], rows, atol=1e-5)
    np.testing.assert_allclose(told["plain_images"][0], drawn / np.linalg.norm(drawn), atol=1e-5)
    cosine = np.dot(told["images"][0], picture / np.linalg.norm(picture))
    assert cosine > 0.999  # another Pillow may encode a JPEG a little differently
    [model] = told["models"]
    assert (model["id"], model["backend"]) == (version.name, "sparseclip")
    assert told["unix"] > 1e9
