"""What decoding an image costs, and what the short cuts on the way do to its code.

JPEGs are decoded whole, resized whole by Pillow and normalised by a division, which is the plain
way, and then as this server does it. Both run in this process on one core, in turn. The codes of
both are compared with each other.

The images are made of three photographs that scikit-learn and Matplotlib ship. `photo` is a random
part of one of them, resized and with the grain of a camera. `mosaic` is tiles of them at their own
resolution: it has more detail than a camera gives, and is the harder case. The last sizes of a
bundle are the smallest that are decoded at a half, a quarter and an eighth, which are the worst for
the codes, as far as a server takes files of that size.

    python -m benchmarks.decoding                                       # the demo bundle
    python -m benchmarks.decoding --bundle models/demo --bundle /models/vit_b32/1
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS, machine, summary
from bundle.image import ImageLimits, decode_frame
from bundle.onnx_graph import OnnxGraph
from bundle.preprocessor import MIN_REDUCED, Preprocessor
from bundle.store import Bundle, default_bundle, open_bundle
from training.bundling.onnx_parity import row_cosines

SIZES = ((512, 384), (1600, 1200), (4032, 3024))
MAX_WIDTH = 5_000
"""A wider mosaic has more bytes than a server takes."""
GRAIN = 4.0
"""Standard deviation of the grain, in levels."""

Pixels = NDArray[np.float32]


def main() -> None:
    """Measures every bundle, prints and writes benchmarks/results/decoding.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--bundle", type=Path, action="append", help="may be given again; default: the demo bundle"
    )
    parser.add_argument("--images", type=at_least(2), default=24, help="of each size and kind")
    parser.add_argument("--rounds", type=at_least(1), default=5, help="times each is decoded")
    parser.add_argument("--out", type=Path, default=RESULTS / "decoding.json")
    arguments = parser.parse_args()
    photos = photographs()
    result: dict[str, Any] = {"machine": machine(), "bundles": {}}
    for path in arguments.bundle or [default_bundle()]:
        bundle = open_bundle(path)
        smallest = [smallest_reduced(bundle, factor) for factor in (2, 4, 8)]
        rows = [
            measure(bundle, f"{kind} {size[0]} x {size[1]}", images, arguments.rounds)
            for size in (*SIZES, *(size for size in smallest if size[0] <= MAX_WIDTH))
            for kind, images in encoded_images(photos, size, arguments.images).items()
        ]
        manifest = bundle.manifest
        name = f"{manifest.name} {manifest.version}, {manifest.preprocessing.size} px"
        result["bundles"][name] = rows
    text = json.dumps(result, indent=1)
    print(text)
    arguments.out.write_text(text + "\n")


def smallest_reduced(bundle: Bundle, factor: int) -> tuple[int, int]:
    """The smallest 4:3 image that the bundle's decoder makes so many times smaller."""
    height = -int(-factor * MIN_REDUCED * bundle.manifest.preprocessing.size // 1)
    return -(-height * 4 // 3), height


def measure(bundle: Bundle, name: str, images: list[bytes], rounds: int) -> dict[str, Any]:
    """Decodes every image plainly and as the server does, and compares the codes."""
    preprocess = bundle.preprocessor
    ways: dict[str, Callable[[bytes], Pixels]] = {
        "plain": lambda data: plain(preprocess, decode_frame(data, ImageLimits()).image),
        "served": lambda data: preprocess.decode(data, ImageLimits()).pixels,
    }
    pixels = {way: np.stack([decode(data) for data in images]) for way, decode in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, decode in ways.items():
            started = time.thread_time()
            for data in images:
                decode(data)
            seconds[way].append((time.thread_time() - started) / len(images))
    with Image.open(io.BytesIO(images[0])) as image:
        factor = preprocess.reduction(*image.size)
    before, served = seconds["plain"], seconds["served"]
    return {
        "images": name,
        "kilobytes": round(statistics.mean(map(len, images)) / 1000),
        "decoded_smaller_by": factor,
        "plain_ms": summary([1e3 * value for value in before]),
        "served_ms": summary([1e3 * value for value in served]),
        "times": summary([b / s for b, s in zip(before, served, strict=True)]),
        **parity(bundle, pixels["plain"], pixels["served"]),
    }


def plain(preprocess: Preprocessor, image: Image.Image) -> Pixels:
    """The pixels of an opaque image as open_clip makes them: resized, cropped, divided."""
    p = preprocess.preprocessing
    filter_ = Image.Resampling[p.interpolation.upper()]
    (width, height), size, short = image.size, p.size, min(image.size)
    if p.resize == "shortest_crop":
        resized = image.resize((size * width // short, size * height // short), filter_)
        left, top = ((side - size) // 2 for side in resized.size)
        square = resized.crop((left, top, left + size, top + size))
    elif p.resize == "squash":
        square = image.resize((size, size), filter_)
    else:
        raise SystemExit("--bundle: a model that pads images is not measured")
    pixels = np.asarray(square, dtype=np.float32) / np.float32(255)
    mean, std = (np.asarray(rgb, dtype=np.float32) for rgb in (p.mean, p.std))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def parity(bundle: Bundle, before: Pixels, served: Pixels) -> dict[str, float]:
    """How near the codes of pixels (B, 3, S, S) are: cosine, and overlap of active concepts."""
    architecture = bundle.manifest.architecture
    path = bundle.file("image.onnx")
    if not architecture.is_sparse:
        graph = OnnxGraph(path, "image", sparse=False)
        cosines = row_cosines(graph.run(before)["dense"], graph.run(served)["dense"])
        return {"cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}
    graph = OnnxGraph(path, "image")
    a, b = (graph.codes(pixels, architecture.concepts) for pixels in (before, served))
    cosines = row_cosines(a, b)
    jaccard = ((a > 0) & (b > 0)).sum(axis=1) / ((a > 0) | (b > 0)).sum(axis=1)
    return {
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
        "jaccard_min": float(jaccard.min()),
        "jaccard_mean": float(jaccard.mean()),
    }


def photographs() -> list[Image.Image]:
    """Three photographs that come with libraries, 512 x 600 to 640 x 427."""
    from importlib.resources import files

    names = (
        ("sklearn.datasets", "images/china.jpg"),
        ("sklearn.datasets", "images/flower.jpg"),
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    )
    return [
        Image.open(io.BytesIO((files(package) / name).read_bytes())).convert("RGB")
        for package, name in names
    ]


def encoded_images(
    photos: list[Image.Image], size: tuple[int, int], count: int
) -> dict[str, list[bytes]]:
    """`count` JPEGs of each kind."""
    makers = {"photo": photo, "mosaic": mosaic}
    return {
        kind: [jpeg(make(photos, size, np.random.default_rng(seed))) for seed in range(count)]
        for kind, make in makers.items()
    }


def photo(
    photos: list[Image.Image], size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """A random part of one photograph, with the aspect and the size that are asked for."""
    source = photos[rng.integers(len(photos))]
    share = rng.uniform(0.6, 1.0)
    scale = share * min(source.width / size[0], source.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
    part = source.resize(size, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
    levels = np.asarray(part) + rng.normal(0, GRAIN, (size[1], size[0], 3))
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def mosaic(
    photos: list[Image.Image], size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Tiles of the photographs, side by side at their own resolution."""
    side = 320
    canvas = Image.new("RGB", size)
    for top in range(0, size[1], side):
        for left in range(0, size[0], side):
            source = photos[rng.integers(len(photos))]
            x, y = (int(rng.integers(0, edge - side + 1)) for edge in source.size)
            canvas.paste(source.crop((x, y, x + side, y + side)), (left, top))
    return canvas


def jpeg(image: Image.Image) -> bytes:
    """Encoded as cameras and web sites do: quality 90, colours at half the resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
