"""Whether maps point: is the hottest cell of a label's map where its image was put?

Images of a split are put on a white canvas at half of its side: one in a quadrant, two beside each
other, or one in each quadrant. A label's map is the sum of the patches' codes, weighted by the
label's own code. Its hottest cell is a hit as far as it lies in the label's part of the canvas: a
cell on the border of two parts counts half in each. A tie counts as its share, and a map of zeros
is a miss. By chance: the same, with the label of another image. One image in a quadrant is also
looked for by the map of its strongest concept, which needs no label.

    python -m benchmarks.pointing                   # the demo bundle, on the unseen style
    python -m benchmarks.pointing models/mine --split val_style
    python -m benchmarks.pointing runs/mine --split val_style
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS, add_result
from bundle.ground import lay_on_ground
from bundle.onnx_graph import OnnxGraph
from bundle.progress import show_progress
from bundle.store import default_bundle
from training.evaluation.encoder import BundleEncoder, CheckpointEncoder, open_encoder
from training.loading.pair_data import PairData
from training.loading.samples import LabelledImage, read_samples

CANVAS = 448
WHITE = (255, 255, 255)
SCENES_PER_RUN = 32

AnyEncoder = BundleEncoder | CheckpointEncoder

Grid = NDArray[np.float32]
"""A map: rows and columns of patches."""


class Region(NamedTuple):
    """Half of a canvas's side in each direction in which it has one; -1 is left or top, 1 is right
    or bottom, 0 is either."""

    x: int
    y: int


QUADRANTS = (Region(-1, -1), Region(1, -1), Region(-1, 1), Region(1, 1))
SIDES = (Region(-1, 0), Region(1, 0))


class Scene(NamedTuple):
    """A canvas, and the labels that are in each part of it."""

    canvas: Image.Image
    parts: list[tuple[str, Region]]
    other: str
    """The label of an image that is not on it."""


def main() -> None:
    """Measures, prints, and adds the result to benchmarks/results/pointing.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, nargs="?", help="a bundle or a run; the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--split", default="test_style")
    parser.add_argument("--scenes", type=at_least(1), default=400, help="of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS / "pointing.json")
    given = parser.parse_args()
    encoder = open_encoder(given.model or default_bundle())
    samples = read_samples(PairData(given.data), [given.split])[given.split]
    result = measure(encoder, samples, given.scenes)
    print(json.dumps(result, indent=1))
    add_result(given.out, f"{encoder.name}, {given.split}", result)


def measure(encoder: AnyEncoder, samples: Sequence[LabelledImage], count: int) -> dict[str, Any]:
    """The share of hits in each kind of scene, in percent."""
    maps = Maps(encoder)
    rows, columns = grid = maps.grid
    result: dict[str, Any] = {"scenes": count, "grid": list(grid), "hits": {}}
    for kind, regions, choose in (
        ("one in a quadrant", QUADRANTS, 1),
        ("two beside each other", SIDES, 2),
        ("one in each quadrant", QUADRANTS, 4),
    ):
        scenes = make_scenes(samples, regions, choose, count)
        figures: dict[str, list[float]] = {"label": [], "by chance": [], "strongest concept": []}
        for scene, patches in zip(scenes, maps.patches(scenes, kind), strict=True):
            other = maps.of_label(patches, scene.other)
            for label, region in scene.parts:
                figures["label"].append(hit(maps.of_label(patches, label), region))
                figures["by chance"].append(hit(other, region))
                if choose == 1:
                    strongest = patches.mean(axis=(0, 1)).argmax()
                    figures["strongest concept"].append(hit(patches[:, :, strongest], region))
        result["hits"][kind] = {
            name: round(100 * float(np.mean(hits)), 1) for name, hits in figures.items() if hits
        }
    whole = [Scene(squared(sample), [], "") for sample in samples[:count]]
    active = np.mean([(p > 0).any(axis=2) for p in maps.patches(whole, "whole images")], axis=0)
    result["images_in_which_a_cell_is_active"] = {
        "lowest": round(100 * float(active.min()), 1),
        "mean": round(100 * float(active.mean()), 1),
        "cells": [
            [round(100 * float(active[r, c]), 1) for c in range(columns)] for r in range(rows)
        ],
    }
    return result


def make_scenes(
    samples: Sequence[LabelledImage], regions: Sequence[Region], choose: int, count: int
) -> list[Scene]:
    """Scenes of images with different labels; the same ones at every call."""
    draw = random.Random(0)
    scenes: list[Scene] = []
    while len(scenes) < count:
        chosen = draw.sample(samples, choose + 1)
        labels = [str(sample.meta["caption"]) for sample in chosen]
        if len(set(labels)) <= choose:
            continue
        canvas = Image.new("RGB", (CANVAS, CANVAS), WHITE)
        places = draw.sample(regions, choose)
        for sample, place in zip(chosen, places, strict=False):
            corner = ((1 + place.x) * CANVAS // 4, (1 + place.y) * CANVAS // 4)
            canvas.paste(squared(sample).resize((CANVAS // 2, CANVAS // 2)), corner)
        scenes.append(Scene(canvas, list(zip(labels, places, strict=False)), labels[-1]))
    return scenes


def squared(sample: LabelledImage) -> Image.Image:
    """The image as serving sees it: upon its ground, with white beside it."""
    image, _ = lay_on_ground(sample.image(), WHITE)
    square = Image.new("RGB", (max(image.size), max(image.size)), WHITE)
    square.paste(image, ((square.width - image.width) // 2, (square.height - image.height) // 2))
    return square


class Maps:
    """The patch codes of scenes, and the maps of labels."""

    def __init__(self, encoder: AnyEncoder) -> None:
        self.encoder = encoder
        self.labels: dict[str, NDArray[np.float32]] = {}
        self.graph: OnnxGraph | None = None
        if isinstance(encoder, CheckpointEncoder):
            self.grid = encoder.model.patch_grid
        else:
            self.grid = encoder.bundle.manifest.architecture.grid
            self.graph = OnnxGraph(encoder.bundle.file("patches.onnx"), "patches")

    def _encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The codes of patches, (B, P, C)."""
        full: NDArray[np.float32]
        if isinstance(self.encoder, CheckpointEncoder):
            with torch.inference_mode():
                full = self.encoder.model.encode_patches(torch.from_numpy(pixels)).numpy()
            return full
        assert self.graph is not None
        found = self.graph.run(pixels, ("patch_indices", "patch_values"))
        full = np.zeros((*found["patch_indices"].shape[:2], self.encoder.concepts), "f4")
        np.put_along_axis(full, found["patch_indices"], found["patch_values"], axis=2)
        return full

    def patches(self, scenes: Sequence[Scene], kind: str) -> list[NDArray[np.float32]]:
        """The codes (rows, columns, C) of each scene's patches."""
        codes: list[NDArray[np.float32]] = []
        with show_progress("encoding", len(scenes), kind) as advance:
            for start in range(0, len(scenes), SCENES_PER_RUN):
                group = scenes[start : start + SCENES_PER_RUN]
                pixels = np.stack([self.encoder.preprocess(scene.canvas) for scene in group])
                codes += [patches.reshape(*self.grid, -1) for patches in self._encode(pixels)]
                advance(len(group))
        return codes

    def of_label(self, patches: NDArray[np.float32], label: str) -> Grid:
        """A label's map: patch codes times the label's code."""
        if label not in self.labels:
            self.labels[label] = self.encoder.texts([label])[0]
        product: Grid = patches @ self.labels[label]
        return product


def hit(grid: Grid, region: Region) -> float:
    """The share of the hottest cell that is in a region of the canvas; of several, the mean.

    A grid of 7 x 7 has cells on the canvas's middle, which are in both halves. By this rule the hit
    of a random cell is the region's share of the canvas, whatever the grid.
    """
    if grid.max() <= 0:
        return 0.0
    hottest = np.argwhere(grid == grid.max())
    # Twice the distance of a cell's centre from the canvas's middle, in cells.
    y, x = (2 * hottest + 1 - np.array(grid.shape)).T
    inside = np.ones(len(hottest))
    for offset, side in ((x, region.x), (y, region.y)):
        if side:
            inside *= (1 + np.sign(offset) * side) / 2
    return float(inside.mean())


if __name__ == "__main__":
    main()
