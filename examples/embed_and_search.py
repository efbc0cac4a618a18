"""Search a folder of images by words.

    make serve                                                  # in another terminal
    python examples/embed_and_search.py docs/images sailboat

The codes are kept in one sparse matrix in memory, which is enough for some hundred thousand
images. docs/search.md puts them into a vector database instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sparseclip import Client

ENDINGS = {".jpeg", ".jpg", ".png", ".webp"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of images, searched with all below it")
    parser.add_argument("query", help="a word or a sentence")
    parser.add_argument("--top", type=int, default=5, help="images to show")
    parser.add_argument("--server", default="localhost:50051")
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not paths:
        parser.error(f"{options.folder}: holds no images")

    with Client(options.server) as client:
        images = client.embed(images=paths)
        text = client.embed(texts=[options.query])
    for image in images.failed:
        print(f"{image.source}: {image.status.message}")

    # Rows of length 1, so that an inner product is the cosine of two codes: (N, C) @ (C, 1).
    codes, query = images.to_csr(normalize=True), text.to_csr(normalize=True)
    cosines = (codes @ query.T).toarray()[:, 0]
    for i in np.argsort(-cosines)[: options.top]:
        print(f"{cosines[i]:.3f}  {images.ok[i].source}")


if __name__ == "__main__":
    main()
