"""Train a small Sparse CLIP on pairs of images and texts of your own, and embed with it.

    python examples/train_on_own_pairs.py my_images runs/own_pairs     # cat.png beside cat.txt, ...
    python examples/train_on_own_pairs.py --draw my_images runs/own_pairs    # pairs to try it with

The pairs become WebDataset shards, which is what `sparseclip train` streams; shards that you have
already can be named in the recipe (`data.path`). examples/own_pairs.yaml is the recipe.

What pairs of your own cannot do yet: `sparseclip evaluate` and `sparseclip bundle export` want a
data set with an index (index.json: splits, labels, licences), which only `sparseclip data build`
writes. So a run on your own pairs is used from Python, as below, and cannot be served.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.evaluation.encoder import CheckpointEncoder
from training.trainer.loop import train
from training.trainer.training_recipe import TrainingRecipe

ENDINGS = (".jpg", ".png", ".webp")
RECIPE = Path(__file__).parent / "own_pairs.yaml"
PAIRS_PER_SHARD = 1000
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "triangle", "bar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="a folder: NAME.png beside NAME.txt")
    parser.add_argument(
        "run", type=Path, help="the run's folder; RUN-shards beside it holds the pairs"
    )
    parser.add_argument("--draw", action="store_true", help="draw shapes into IMAGES first")
    parser.add_argument("--set", action="append", default=[], help="a recipe value: loop.epochs=5")
    options = parser.parse_args()

    if options.draw:
        draw_shapes(options.images, count=512)
    images = sorted(p for p in options.images.iterdir() if p.suffix in ENDINGS)
    images = [image for image in images if image.with_suffix(".txt").is_file()]
    if not images:
        parser.error(f"{options.images}: holds no image with a .txt file beside it")
    shards = options.run.with_name(f"{options.run.name}-shards")
    write_shards(images, shards)
    print(f"{len(images)} pairs")

    settings = [f"data.path={shards}", f"data.stream_pairs={len(images)}"]
    checkpoint = train(TrainingRecipe.load(str(RECIPE), [*settings, *options.set]), options.run)
    print(f"checkpoint: {checkpoint}")
    evaluate(checkpoint, images[:256])


def write_shards(images: list[Path], folder: Path) -> None:
    """Writes tar files of `NUMBER.png` beside `NUMBER.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(images), PAIRS_PER_SHARD):
        with tarfile.open(folder / f"{start // PAIRS_PER_SHARD:05d}.tar", "w") as shard:
            for number, image in enumerate(images[start : start + PAIRS_PER_SHARD], start):
                for path in (image, image.with_suffix(".txt")):
                    shard.add(path, arcname=f"{number:08d}{path.suffix}")


def evaluate(checkpoint: Path, images: list[Path]) -> None:
    """Prints how often an image's own text is the nearest one, and how sparse the codes are."""
    encoder = CheckpointEncoder(checkpoint)
    captions = [path.with_suffix(".txt").read_text().strip() for path in images]
    texts = sorted(set(captions))
    opened = [Image.open(path).convert("RGB") for path in images]
    image_codes = encoder.images(opened)  # (N, C), zeros included
    text_codes = encoder.texts(texts)  # (M, C)
    nearest = (unit(image_codes) @ unit(text_codes).T).argmax(axis=1)
    right = np.mean([texts[i] == caption for i, caption in zip(nearest, captions, strict=True)])
    print(f"own text nearest: {right:.0%} of {len(images)} images, among {len(texts)} texts")
    active = (image_codes > 0).sum(axis=1).mean()
    print(f"active concepts: {active:.0f} of {image_codes.shape[1]}")


def unit(codes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    norms: NDArray[np.float32] = np.linalg.norm(codes, axis=1, keepdims=True)
    unit_codes: NDArray[np.float32] = codes / norms.clip(1e-12)
    return unit_codes


def draw_shapes(folder: Path, count: int) -> None:
    """Draws pairs to try this with, such as a red circle and `a red circle`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        colour, shape = str(random.choice(COLOURS)), str(random.choice(SHAPES))
        grey = int(random.integers(100, 160))
        image = Image.new("RGB", (48, 48), (grey, grey, grey))
        draw = ImageDraw.Draw(image)
        size = int(random.integers(18, 30))
        x, y = random.integers(0, 48 - size, 2).tolist()
        box = (x, y, x + size, y + size)
        if shape == "circle":
            draw.ellipse(box, fill=colour)
        elif shape == "square":
            draw.rectangle(box, fill=colour)
        elif shape == "triangle":
            draw.polygon(((x, y + size), (x + size, y + size), (x + size / 2, y)), fill=colour)
        else:
            draw.rectangle((x, y + size / 3, x + size, y + size / 2), fill=colour)
        image.save(folder / f"{i:05d}.png")
        (folder / f"{i:05d}.txt").write_text(f"a {colour} {shape}\n")


if __name__ == "__main__":
    main()
