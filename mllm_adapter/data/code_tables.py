"""Patch codes of a data set's images, computed once and cached on disk.

No stage of an adapter's training changes the vision backbone, so each image is encoded once: as
evaluation sees it, and in random views for training.

B batch, N images, P patches, C concepts, K TopK slots, S pixels of a side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch import Tensor

from bundle.atomic import draft_of
from bundle.ground import ground_of
from bundle.manifest import Manifest
from bundle.onnx_graph import OnnxGraph
from bundle.preprocessor import Preprocessor
from bundle.progress import show_progress
from bundle.store import Bundle
from bundle.tensor_errors import tensor_writes
from mllm_adapter.data.image_collection import ImageCollection
from mllm_adapter.model.adapter import AdapterConfig, AdapterError
from mllm_adapter.model.projector import PatchCodes
from training.core.seeds import derive_seed
from training.loading.augment import AugmentConfig, augment

PATCH_GRAPH = "patches.onnx"
"""The file of a bundle that gives the codes of patches."""

IMAGES_PER_RUN = 64
"""Images per run of the patch graph."""
TEXTS_PER_RUN = 256
CHUNK = 512
"""Images whose mean codes are computed at a time."""
MAX_STORED_SIDE = 512
"""Pixels of a side up to which square images of one size are not resized before a random view."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTable:
    """The active concepts of all patches of N images, patch after patch and image after image."""

    indices: NDArray[np.unsignedinteger[Any]]
    values: NDArray[np.float16] | NDArray[np.float32]
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

    def means(self, images: Sequence[int]) -> Tensor:
        """The mean codes over the patches of some images, (B, C), as a sparse tensor. A dense one
        of all patches would be P times as large."""
        codes = self.codes(images)
        rows = torch.arange(len(images))[:, None, None].expand_as(codes.indices)
        used = codes.values > 0
        return torch.sparse_coo_tensor(
            torch.stack([rows[used], codes.indices[used]]),
            codes.values[used] / self.patches,
            (len(images), self.concepts),
            check_invariants=False,  # or torch warns
        ).coalesce()

    def of_means(self, images: Sequence[int]) -> CodeTable:
        """A table of the mean codes of some images, which have one patch in it."""
        chunks = [self.means(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        counts = [np.bincount(c.indices()[0], minlength=c.shape[0]) for c in chunks]
        concepts = np.concatenate([c.indices()[1].numpy() for c in chunks])
        return CodeTable(
            indices=concepts.astype(np.min_scalar_type(self.concepts - 1)),
            values=_in_float16(np.concatenate([c.values().numpy() for c in chunks])),
            offsets=np.concatenate([[0], np.concatenate(counts).cumsum()]).astype(np.int64),
            patches=1,
            concepts=self.concepts,
        )


def check_backbone(manifest: Manifest) -> None:
    """Refuses a bundle without patch codes, which adapters read. Raises AdapterError."""
    name = f"bundle {manifest.name}/{manifest.version}"
    if not manifest.architecture.is_sparse:
        raise AdapterError(
            f"{name} is dense, and an adapter reads concepts: `sparseclip sparsify` makes a sparse "
            "bundle of it"
        )
    if not manifest.architecture.patches:
        raise AdapterError(
            f"{name} has no patches, and an adapter reads their codes: take a model whose image "
            "tower has patches"
        )


def check_adapter(config: AdapterConfig, manifest: Manifest) -> None:
    """Refuses a bundle whose codes are not those that an adapter reads. Raises AdapterError."""
    check_backbone(manifest)
    architecture, name = manifest.architecture, f"{manifest.name}/{manifest.version}"
    if (config.concepts, config.patches) != (architecture.concepts, architecture.patches):
        raise AdapterError(
            f"adapter.json: for {config.concepts} concepts on {config.patches} patches; the bundle "
            f"has {architecture.concepts} on {architecture.patches}"
        )
    if config.cells and config.cells.patches != architecture.grid:
        raise AdapterError(
            f"adapter.json: cells.patches: {config.cells.patches}, and {name} has "
            f"{architecture.grid}"
        )
    if config.codes and config.codes != manifest.files[PATCH_GRAPH].sha256:
        raise AdapterError(
            f"adapter.json: codes: it reads the concepts of {config.backbone}, and those of {name} "
            "are others: train one on this bundle"
        )


class BackboneGraphs:
    """The patch and text graphs of a bundle in ONNX Runtime."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Raises AdapterError for a bundle without patch codes."""
        check_backbone(bundle.manifest)
        self.bundle, architecture = bundle, bundle.manifest.architecture
        self.concepts = architecture.concepts
        self.patches = architecture.patches
        self._patch_graph = OnnxGraph(bundle.file(PATCH_GRAPH), "patches", threads=threads)
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
        with show_progress(label, count, "images") as advance:
            for batch in pixels:
                indices, values = self._patches(batch)
                active = values > 0  # (B, P, K)
                parts.append(
                    (
                        indices[active].astype(np.min_scalar_type(self.concepts - 1)),
                        _in_float16(values[active]),
                        active.sum(-1).ravel(),
                    )
                )
                advance(len(batch))
        indices, values, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
        return CodeTable(
            indices=indices,
            values=values,
            offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            patches=self.patches,
            concepts=self.concepts,
        )


def _in_float16(values: NDArray[np.float32]) -> NDArray[np.float16] | NDArray[np.float32]:
    """Values in half the space, where they are small enough for it, as they nearly always are."""
    is_small = values.size == 0 or values.max() <= np.finfo(np.float16).max
    return values.astype(np.float16) if is_small else values


def cached_code_tables(
    graphs: BackboneGraphs, images: ImageCollection, views: int, config: AugmentConfig
) -> list[CodeTable]:
    """Encodes images: one table of them as evaluation sees them, then `views` tables of random
    views. The tables are kept."""
    return [cached_code_table(graphs, images, view, config) for view in range(views + 1)]


def cached_code_table(
    graphs: BackboneGraphs,
    images: ImageCollection,
    view: int = 0,
    config: AugmentConfig | None = None,
) -> CodeTable:
    """Reads the codes of images, or computes and keeps them.

    The file's name is a digest of what identifies the images, of the graph, and of the view. View 0
    applies the bundle's preprocessing; every other view is a random one.
    """
    graph = graphs.bundle.manifest.files[PATCH_GRAPH].sha256
    augment = asdict(config) if view and config else None
    if augment is not None:
        del augment["pair"]  # which is 0; files from before there was such a field keep their names
    inputs: list[Any] = [graph, images.source, view, augment]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    path = images.folder / f"{digest[:32]}.safetensors"
    if not path.is_file():
        pixels = _views(graphs.bundle, images.images(), view, config)
        table = graphs.table(pixels, images.count, "codes")
        with draft_of(path) as file, tensor_writes():
            save_file(
                {"indices": table.indices, "values": table.values, "offsets": table.offsets},
                file.name,
            )
    arrays: dict[str, Any] = load_file(path)
    return CodeTable(patches=graphs.patches, concepts=graphs.concepts, **arrays)


def _views(
    bundle: Bundle, images: Iterable[Image.Image], view: int, config: AugmentConfig | None
) -> Iterator[NDArray[np.float32]]:
    """Pixels of IMAGES_PER_RUN images at a time; the images are decoded as they are needed."""
    remaining = iter(images)
    number = 0
    while part := list(islice(remaining, IMAGES_PER_RUN)):
        if view == 0 or config is None:
            yield np.stack([bundle.preprocessor(image) for image in part])
        else:
            generator = torch.Generator().manual_seed(derive_seed(view, number))
            yield random_views(bundle.preprocessor, part, config, generator)
        number += 1


def random_views(
    preprocessor: Preprocessor,
    images: Sequence[Image.Image],
    config: AugmentConfig,
    generator: torch.Generator,
) -> NDArray[np.float32]:
    """One random view of each image, as the image tower reads it, (B, 3, S, S).

    Small square images of one size, as built data have them, are drawn from as they are. Any others
    are made square by the bundle's preprocessing first.
    """
    p = preprocessing = preprocessor.preprocessing
    mean, std = (torch.tensor(rgb)[:, None, None] for rgb in (p.mean, p.std))
    sizes = {image.size for image in images}
    width, height = next(iter(sizes))
    if len(sizes) > 1 or width != height or width > MAX_STORED_SIDE:
        squares = torch.from_numpy(np.stack([preprocessor(image) for image in images]))
        levels = ((squares * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        rgba = torch.cat([levels, torch.full_like(levels[:, :1], 255)], dim=1)
    else:
        stacked = np.stack([np.asarray(image.convert("RGBA")) for image in images])
        rgba = torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy())
    grounds = [
        ground_of(Image.fromarray(pixels.permute(1, 2, 0).numpy()), preprocessing.background)
        for pixels in rgba
    ]
    views = augment(rgba, p.size, config, generator, grounds=torch.tensor(grounds) / 255).pixels
    standardized: NDArray[np.float32] = ((views - mean) / std).numpy()
    return standardized
