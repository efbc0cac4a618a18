"""Calls of infinity's client, run where it is installed: `python infinity_calls.py < JSON`."""

from __future__ import annotations

import base64
import io
import json
import sys
from typing import Any

from infinity_client import Client
from infinity_client.api.default import embeddings, health, models
from infinity_client.models import OpenAIEmbeddingInputImage, OpenAIEmbeddingInputText
from infinity_client.vision_client import InfinityVisionAPI
from PIL import Image


def main(given: dict[str, Any]) -> dict[str, Any]:
    """The vectors of texts and images by both of its clients, and the models by one."""
    vision = InfinityVisionAPI(url=given["address"], model="")
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in given["images"]]
    texts, _ = vision.embed("", given["texts"]).result()
    pictures, _ = vision.image_embed("", images).result()
    generated = Client(base_url=given["address"], raise_on_unexpected_status=True)
    plain: Any = embeddings.sync(
        client=generated, body=OpenAIEmbeddingInputText(input_=given["texts"])
    )
    uris = [f"data:image/png;base64,{data}" for data in given["images"]]
    plain_images: Any = embeddings.sync(
        client=generated, body=OpenAIEmbeddingInputImage(input_=uris)
    )
    listed: Any = models.sync(client=generated)
    alive: Any = health.sync(client=generated)
    return {
        "health": vision.health(),
        "width": int(vision.hidden_dim),
        "texts": [row.ravel().tolist() for row in texts],
        "images": [row.ravel().tolist() for row in pictures],
        "plain": [entry.embedding for entry in plain.data],
        "plain_images": [entry.embedding for entry in plain_images.data],
        "models": [model.to_dict() for model in listed.data],
        "unix": alive["unix"],
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
