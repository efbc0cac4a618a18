"""Calls of infinity's client, run where it is installed: `python infinity_calls.py < JSON`."""

from __future__ import annotations

import base64
import io
import json
import sys
from typing import Any

from infinity_client import Client
from infinity_client.api.default import embeddings
from infinity_client.models import OpenAIEmbeddingInputText
from infinity_client.vision_client import InfinityVisionAPI
from PIL import Image


def main(given: dict[str, Any]) -> dict[str, Any]:
    """The vectors of the texts by both of its clients, and of the images by one."""
    vision = InfinityVisionAPI(url=given["address"], model="")
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in given["images"]]
    texts, _ = vision.embed("", given["texts"]).result()
    pictures, _ = vision.image_embed("", images).result()
    body = OpenAIEmbeddingInputText(input_=given["texts"])
    plain: Any = embeddings.sync(client=Client(base_url=given["address"]), body=body)
    return {
        "health": vision.health(),
        "width": int(vision.hidden_dim),
        "texts": [row.ravel().tolist() for row in texts],
        "images": [row.ravel().tolist() for row in pictures],
        "plain": [entry.embedding for entry in plain.data],
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
