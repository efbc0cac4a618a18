"""Images and texts on which engines are compared with the reference, and calibrated.

Without images of the user's, they are drawn: shapes, letters, gradients and noise of many kinds,
the same on every machine. They show how numbers differ, and say nothing about what a model knows.
S image side, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from bundle.onnx_graph import GraphName
from bundle.store import Bundle
from serving.engine_plans.user_images import GateInputsError, read_user_images
from serving.storage.left_out import LeftOut

GATE_ITEMS = 32
"""How many images and texts are compared. The slowest model takes half a second for one."""

CALIBRATION_ITEMS = 128
"""How many images and texts show which ranges int8 has to hold; NNCF's own default is 300."""

LEAST_IMAGES = 16
"""Fewer images of the user's than this do not show how a model does on them."""

_NOUNS = """
    cat dog horse bird fish tree flower house car bicycle train boat aeroplane bridge road river
    mountain beach sky cloud sun moon star snow rain fire apple banana orange bread cheese cup
    bottle plate knife fork spoon chair table bed lamp door window clock phone computer book
"""
"""What is asked of a model that has neither captions nor concepts."""


@dataclass(frozen=True, kw_only=True)
class GateInputs:
    """What the graphs of a bundle are compared and calibrated on."""

    pixels: NDArray[np.float32]
    """(N, 3, S, S)."""
    tokens: NDArray[np.int64]
    """(M, T)."""
    calibration_pixels: NDArray[np.float32] | None = None
    """(n, 3, S, S), of other images than `pixels`. None for drawn images: int8 is not fitted to
    drawings."""
    calibration_tokens: NDArray[np.int64] | None = None
    """(m, T)."""
    images: str = "drawn"
    """What the images are, for people."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Files of the user's that are not among them, by reason."""

    def of(self, graph: GraphName) -> NDArray[Any]:
        """What a graph is compared on."""
        return self.tokens if graph == "text" else self.pixels

    def calibration_of(self, graph: GraphName) -> NDArray[Any] | None:
        """What a graph is calibrated on."""
        return self.calibration_tokens if graph == "text" else self.calibration_pixels


def gate_inputs(bundle: Bundle, folder: Path | None = None) -> GateInputs:
    """The inputs for a bundle, with the images in and below a folder of the user's if there is one.

    Raises GateInputsError when the folder has too few images.
    """
    compared, others = _texts(bundle)
    tokens = bundle.tokenizer.encode(compared)
    calibration_tokens = bundle.tokenizer.encode(others) if others else tokens
    if folder is None:
        pixels = np.stack([bundle.preprocessor(image) for image in drawn_images()])
        return GateInputs(pixels=pixels, tokens=tokens, calibration_tokens=calibration_tokens)
    found = read_user_images(bundle, folder, GATE_ITEMS + CALIBRATION_ITEMS)
    images = found.pixels
    if len(images) < LEAST_IMAGES:
        left_out = f" (left out: {found.left_out})" if found.left_out else ""
        raise GateInputsError(
            f"--images: {len(images)} images can be read there{left_out};"
            f" {LEAST_IMAGES} are the least"
        )
    count = min(GATE_ITEMS, len(images) // 2)
    step = len(images) / count
    chosen = {int(number * step) for number in range(count)}
    return GateInputs(
        pixels=np.stack([images[number] for number in sorted(chosen)]),
        tokens=tokens,
        calibration_pixels=np.stack([x for n, x in enumerate(images) if n not in chosen]),
        calibration_tokens=calibration_tokens,
        images=f"{len(images)} images",
        left_out=found.left_out,
    )


def _texts(bundle: Bundle) -> tuple[list[str], list[str]]:
    """Texts of the model's own data where it has any: those that are compared, and others."""
    captions = bundle.captions
    texts = list(captions.texts) if captions else []
    if len(texts) < GATE_ITEMS:
        texts += [concept.name for concept in bundle.concepts.concepts if concept.name]
    if len(texts) < GATE_ITEMS:
        texts += _NOUNS.split()
    texts = list(dict.fromkeys(texts))
    step = max(1, len(texts) // GATE_ITEMS)
    compared = texts[::step][:GATE_ITEMS]
    others = [text for text in texts if text not in set(compared)]
    return compared, others[:: max(1, len(others) // CALIBRATION_ITEMS)][:CALIBRATION_ITEMS]


def drawn_images() -> list[Image.Image]:
    """GATE_ITEMS images, the same on every machine: RGB, of several sizes and shapes."""
    rng = np.random.default_rng(20_260)
    kinds = (_shapes, _letters, _noise, _gradient)
    return [kinds[number % len(kinds)](rng) for number in range(GATE_ITEMS)]


def _size(rng: np.random.Generator) -> tuple[int, int]:
    width, height = (int(side) for side in rng.integers(160, 512, 2))
    return width, height


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _shapes(rng: np.random.Generator) -> Image.Image:
    width, height = _size(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 9))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        side = int(rng.integers(20, 200))
        box = (x - side // 2, y - side // 2, x + side // 2, y + side // 2)
        draw_shape = (draw.ellipse, draw.rectangle)[int(rng.integers(0, 2))]
        draw_shape(box, fill=_colour(rng), outline=_colour(rng), width=int(rng.integers(1, 8)))
    return image


def _letters(rng: np.random.Generator) -> Image.Image:
    width, height = _size(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 6))):
        where = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        letter = chr(int(rng.integers(65, 91)))
        font = ImageFont.load_default(size=int(rng.integers(30, 160)))
        draw.text(where, letter, fill=_colour(rng), font=font, anchor="mm")
    return image


def _noise(rng: np.random.Generator) -> Image.Image:
    """Colours that vary on several scales, as in photographs."""
    width, height = _size(rng)
    pixels = np.zeros((height, width, 3), dtype=np.float32)
    for cells in (2, 4, 8, 16, 32):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
        pixels += np.asarray(smooth, dtype=np.float32) / cells
    pixels -= pixels.min()
    return Image.fromarray((255 * pixels / pixels.max()).astype(np.uint8))


def _gradient(rng: np.random.Generator) -> Image.Image:
    size = _size(rng)
    mask = Image.linear_gradient("L").rotate(float(rng.uniform(0, 360))).resize(size)
    image = Image.composite(Image.new("RGB", size, _colour(rng)), _shapes(rng).resize(size), mask)
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 3))))
