"""Patch codes of a data set's images, computed once. N images, P patches, C concepts, V views.

Both stages of training leave the vision backbone as it is, so that what it makes of an image is
read from a file: the image as it is evaluated, and random views of it for training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from bundle.onnx_graph import OnnxGraph
from bundle.store import Bundle
from mllm_adapter.model.projector import PatchCodes
from training.data.shards import INDEX, read_split
from training.loading.augment import AugmentConfig
from training.trainer.cached_views import FreshViews

IMAGES_PER_RUN = 64
"""Images that go through the graph at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTable:
    """Codes of rows of patches, active concepts only: the patches of one image after another."""

    indices: NDArray[np.uint16]
    values: NDArray[np.float16]
    offsets: NDArray[np.int64]
    """Patch p of image n is `offsets[n * P + p]` up to the next."""
    patches: int
    concepts: int

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.patches

    def codes(self, images: Sequence[int]) -> PatchCodes:
        """Chosen images, in as many slots as the fullest of their patches wants."""
        starts = np.asarray(images)[:, None] * self.patches + np.arange(self.patches)
        first, last = self.offsets[starts], self.offsets[starts + 1]
        slots = np.arange(max(1, int((last - first).max())))
        used = slots < (last - first)[:, :, None]
        at = np.where(used, first[:, :, None] + slots, 0)
        return PatchCodes(
            torch.from_numpy(np.where(used, self.indices[at], 0).astype(np.int64)),
            torch.from_numpy(np.where(used, self.values[at], 0).astype(np.float32)),
        )


class BackboneGraphs:
    """The patch and text graphs of a bundle in ONNX Runtime."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self.bundle, architecture = bundle, bundle.manifest.architecture
        self.concepts = architecture.concepts
        self.patches = architecture.patch_grid[0] * architecture.patch_grid[1]
        self._patch_graph = OnnxGraph(bundle.file("patches.onnx"), "patches", threads=threads)
        self._text_graph = OnnxGraph(bundle.file("text.onnx"), "text", threads=threads)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Codes of texts, (B, C)."""
        codes = np.zeros((len(texts), self.concepts), dtype=np.float32)
        for start in range(0, len(texts), 256):
            tokens = self.bundle.tokenizer.encode(list(texts[start : start + 256]))
            codes[start : start + 256] = self._text_graph.codes(tokens, self.concepts)
        return codes

    def codes(self, pixels: NDArray[np.float32]) -> PatchCodes:
        """Pixels (B, 3, S, S) to codes in the graph's slots."""
        return PatchCodes(*(torch.from_numpy(x) for x in self._patches(pixels))).trimmed()

    def _patches(self, pixels: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        arrays = self._patch_graph.run(pixels, ("patch_indices", "patch_values"))
        return arrays["patch_indices"], arrays["patch_values"]

    def table(self, pixels: Iterable[NDArray[np.float32]], count: int, what: str) -> CodeTable:
        """Batches of pixels (B, 3, S, S) to codes, with a progress bar over `count` images."""
        parts: list[tuple[Any, ...]] = []
        with tqdm(total=count, desc=what, unit="image", leave=False) as bar:
            for batch in pixels:
                indices, values = self._patches(batch)
                fired = values > 0
                parts.append(
                    (
                        indices[fired].astype(np.uint16),
                        values[fired].astype(np.float16),
                        fired.sum(-1).ravel(),
                    )
                )
                bar.update(len(batch))
        indices, values, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        return CodeTable(
            indices=indices,
            values=values,
            offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            patches=self.patches,
            concepts=self.concepts,
        )


def cached_code_tables(
    graphs: BackboneGraphs, folder: Path, split: str, views: int, augment: AugmentConfig
) -> list[CodeTable]:
    """A split's images as evaluation sees them, then `views` tables of random views.

    Kept beside the data, under a digest of all that they depend on.
    """

    def images() -> list[Image.Image]:
        return [sample.image() for sample in read_split(folder, split)]

    index = hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
    return [
        cached_code_table(graphs, folder / "codes", images, (index, split), view, augment)
        for view in range(views + 1)
    ]


def cached_code_table(
    graphs: BackboneGraphs,
    folder: Path,
    images: Callable[[], Sequence[Image.Image]],
    what: tuple[str, ...],
    view: int = 0,
    augment: AugmentConfig | None = None,
) -> CodeTable:
    """The codes of images, which `what` names for good: from `folder`, or computed and put there.

    View 0 is what the bundle's preprocessing makes of them; any other is a random one.
    """
    graph = graphs.bundle.manifest.files["patches.onnx"].sha256
    chosen: list[Any] = [graph, what, view, asdict(augment) if view and augment else None]
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest[:32]}.safetensors"
    if not path.is_file():
        shown = images()
        table = graphs.table(_views(graphs.bundle, shown, view, augment), len(shown), "codes")
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        save_file(
            {"indices": table.indices, "values": table.values, "offsets": table.offsets}, draft
        )
        draft.rename(path)
    arrays: dict[str, Any] = load_file(path)
    return CodeTable(patches=graphs.patches, concepts=graphs.concepts, **arrays)


def _views(
    bundle: Bundle, images: Sequence[Image.Image], view: int, augment: AugmentConfig | None
) -> Iterator[NDArray[np.float32]]:
    if view == 0 or augment is None:
        for start in range(0, len(images), IMAGES_PER_RUN):
            yield np.stack([bundle.preprocessor(p) for p in images[start : start + IMAGES_PER_RUN]])
        return
    rgba = torch.from_numpy(np.stack([np.asarray(p).transpose(2, 0, 1) for p in images]))
    fresh = FreshViews(rgba, bundle.manifest.preprocessing.size, augment)
    for number, index in enumerate(torch.arange(len(images)).split(IMAGES_PER_RUN)):
        generator = torch.Generator().manual_seed(view * 1_000_003 + number)
        yield fresh(index, generator).numpy()
