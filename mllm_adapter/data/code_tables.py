"""Patch codes of a data set's images, computed once and cached on disk.

No stage of an adapter's training changes the vision backbone, so each image is encoded once: as
evaluation sees it, and in random views for training.

B batch, N images, P patches, C concepts, K TopK slots, S pixels of a side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from bundle.atomic import draft_of
from bundle.onnx_graph import OnnxGraph
from bundle.store import Bundle
from mllm_adapter.model.projector import PatchCodes
from training.core.progress import progress_bar
from training.core.seeds import derive_seed
from training.data.shards import INDEX, read_split
from training.loading.augment import AugmentConfig
from training.loading.views import FreshViews

IMAGES_PER_RUN = 64
"""Images per run of the patch graph."""
TEXTS_PER_RUN = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTable:
    """The active concepts of all patches of N images, patch after patch and image after image."""

    indices: NDArray[np.uint16]
    values: NDArray[np.float16]
    offsets: NDArray[np.int64]
    """(N * P + 1,): patch p of image n has the entries from `offsets[n * P + p]` up to the next
    offset."""
    patches: int
    concepts: int

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.patches

    def codes(self, images: Sequence[int]) -> PatchCodes:
        """The codes of some images, with as many slots as their fullest patch needs."""
        patches = np.asarray(images)[:, None] * self.patches + np.arange(self.patches)  # (B, P)
        first, end = self.offsets[patches], self.offsets[patches + 1]
        slots = np.arange(max(1, int((end - first).max())))
        used = slots < (end - first)[:, :, None]  # (B, P, K)
        entries = np.where(used, first[:, :, None] + slots, 0)
        return PatchCodes(
            torch.from_numpy(np.where(used, self.indices[entries], 0).astype(np.int64)),
            torch.from_numpy(np.where(used, self.values[entries], 0).astype(np.float32)),
        )


class BackboneGraphs:
    """The patch and text graphs of a bundle in ONNX Runtime."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self.bundle, architecture = bundle, bundle.manifest.architecture
        self.concepts = architecture.concepts
        self.patches = architecture.patches
        self._patch_graph = OnnxGraph(bundle.file("patches.onnx"), "patches", threads=threads)
        self._text_graph = OnnxGraph(bundle.file("text.onnx"), "text", threads=threads)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The codes of texts, (B, C)."""
        codes = np.zeros((len(texts), self.concepts), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_PER_RUN):
            tokens = self.bundle.tokenizer.encode(list(texts[start : start + TEXTS_PER_RUN]))
            codes[start : start + TEXTS_PER_RUN] = self._text_graph.codes(tokens, self.concepts)
        return codes

    def codes(self, pixels: NDArray[np.float32]) -> PatchCodes:
        """The codes of preprocessed images, pixels (B, 3, S, S)."""
        return PatchCodes(*(torch.from_numpy(x) for x in self._patches(pixels))).trimmed()

    def _patches(self, pixels: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        arrays = self._patch_graph.run(pixels, ("patch_indices", "patch_values"))
        return arrays["patch_indices"], arrays["patch_values"]

    def table(self, pixels: Iterable[NDArray[np.float32]], count: int, label: str) -> CodeTable:
        """Encodes batches of pixels (B, 3, S, S); a progress bar counts to `count` images."""
        parts: list[tuple[Any, ...]] = []
        with progress_bar(count, "image", description=label, leave=False) as bar:
            for batch in pixels:
                indices, values = self._patches(batch)
                active = values > 0  # (B, P, K)
                parts.append(
                    (
                        indices[active].astype(np.uint16),
                        values[active].astype(np.float16),
                        active.sum(-1).ravel(),
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
    """Encodes a split: one table of the images as evaluation sees them, then `views` tables of
    random views. The tables are cached in `codes/` beside the data."""

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
    source: tuple[str, ...],
    view: int = 0,
    augment: AugmentConfig | None = None,
) -> CodeTable:
    """Reads the codes of images from `folder`, or computes them and writes them there.

    `source` must identify the images: the file's name is a digest of it, of the graph, and of the
    view. View 0 applies the bundle's preprocessing; every other view is a random one.
    """
    graph = graphs.bundle.manifest.files["patches.onnx"].sha256
    inputs: list[Any] = [graph, source, view, asdict(augment) if view and augment else None]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    path = folder / f"{digest[:32]}.safetensors"
    if not path.is_file():
        loaded = images()
        table = graphs.table(_views(graphs.bundle, loaded, view, augment), len(loaded), "codes")
        with draft_of(path) as file:
            save_file(
                {"indices": table.indices, "values": table.values, "offsets": table.offsets},
                file.name,
            )
    arrays: dict[str, Any] = load_file(path)
    return CodeTable(patches=graphs.patches, concepts=graphs.concepts, **arrays)


def _views(
    bundle: Bundle, images: Sequence[Image.Image], view: int, augment: AugmentConfig | None
) -> Iterator[NDArray[np.float32]]:
    if view == 0 or augment is None:
        for start in range(0, len(images), IMAGES_PER_RUN):
            yield np.stack(
                [bundle.preprocessor(image) for image in images[start : start + IMAGES_PER_RUN]]
            )
        return
    rgba = torch.from_numpy(np.stack([np.asarray(image).transpose(2, 0, 1) for image in images]))
    views = FreshViews(rgba, bundle.manifest.preprocessing.size, augment)
    for number, index in enumerate(torch.arange(len(images)).split(IMAGES_PER_RUN)):
        generator = torch.Generator().manual_seed(derive_seed(view, number))
        yield views(index, generator).numpy()
