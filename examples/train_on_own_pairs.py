"""Train a small Sparse CLIP on pairs of images and texts of your own, and embed with it.

    python examples/train_on_own_pairs.py my_images runs/own_pairs     # cat.png beside cat.txt, ...
    python examples/train_on_own_pairs.py --draw my_images runs/own_pairs    # pairs to try it with

A folder of images with caption files is one of the kinds of data that `sparseclip train` reads;
docs/training.md has the others. examples/own_pairs.yaml is the recipe. One pair in twenty is held
out: `sparseclip evaluate RUN` measures the run on these, and `sparseclip bundle export RUN --name
NAME --version 1` makes a bundle that can be served.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.evaluation.encoder import CheckpointEncoder
from training.trainer.loop import train
from training.trainer.training_recipe import TrainingRecipe

ENDINGS = (".jpg", ".png", ".webp")
RECIPE = Path(__file__).parent / "own_pairs.yaml"
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "triangle", "bar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path, help="a folder: NAME.png beside NAME.txt")
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--draw", action="store_true", help="draw shapes into IMAGES first")
    parser.add_argument("--set", action="append", default=[], help="a recipe value: loop.epochs=5")
    options = parser.parse_args()

    if options.draw:
        draw_shapes(options.images, count=512)
    images = sorted(p for p in options.images.iterdir() if p.suffix in ENDINGS)
    images = [image for image in images if image.with_suffix(".txt").is_file()]
    if not images:
        parser.error(f"{options.images}: holds no image with a .txt file beside it")
    print(f"{len(images)} pairs")

    settings = [f"data.path={options.images}", *options.set]
    checkpoint = train(TrainingRecipe.load(str(RECIPE), settings), options.run)
    print(f"checkpoint: {checkpoint}")
    evaluate(checkpoint, images[:256])


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
