"""Patch codes of a data set's pictures, computed once. N pictures, P patches, C concepts, V views.

Both stages of training leave the vision backbone as it is, so that what it makes of a picture is
read from a file: the picture as it is evaluated, and random views of it for training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from bundle.store import Bundle
from training.augment import AugmentConfig
from training.data.shards import INDEX, read_split
from training.views import FreshViews

CHUNK = 64
"""Pictures that go through the graph at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTable:
    """Codes of rows of patches, active concepts only: the patches of one picture after another."""

    indices: NDArray[np.uint16]
    values: NDArray[np.float16]
    offsets: NDArray[np.int64]
    """Patch p of picture n is `offsets[n * P + p]` up to the next."""
    patches: int
    concepts: int

    def __len__(self) -> int:
        return (len(self.offsets) - 1) // self.patches

    def dense(self, pictures: Sequence[int]) -> Float[Tensor, "B P C"]:
        """Chosen pictures in full width."""
        full = np.zeros((len(pictures), self.patches, self.concepts), dtype=np.float32)
        for row, picture in enumerate(pictures):
            first = picture * self.patches
            offsets = self.offsets[first : first + self.patches + 1]
            patch = np.repeat(np.arange(self.patches), np.diff(offsets))
            inside = slice(offsets[0], offsets[-1])
            full[row, patch, self.indices[inside]] = self.values[inside]
        return torch.from_numpy(full)


class BackboneGraphs:
    """The patch and text graphs of a bundle in ONNX Runtime."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        import onnxruntime

        self.bundle, architecture = bundle, bundle.manifest.architecture
        self.concepts = architecture.concepts
        self.patches = architecture.patch_grid[0] * architecture.patch_grid[1]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._sessions = {
            kind: onnxruntime.InferenceSession(
                str(bundle.file(f"{kind}.onnx")), options, providers=["CPUExecutionProvider"]
            )
            for kind in ("patches", "text")
        }

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Codes of texts, (B, C)."""
        codes = np.zeros((len(texts), self.concepts), dtype=np.float32)
        for start in range(0, len(texts), 256):
            tokens = self.bundle.tokenizer.encode(list(texts[start : start + 256]))
            names = ["indices", "values"]
            indices, values = self._sessions["text"].run(names, {"tokens": tokens})
            np.put_along_axis(codes[start : start + 256], indices, values, axis=1)
        return codes

    def table(self, pixels: Iterable[NDArray[np.float32]], count: int, what: str) -> CodeTable:
        """Batches of pixels (B, 3, S, S) to codes, with a progress bar over `count` pictures."""
        parts: list[tuple[Any, ...]] = []
        with tqdm(total=count, desc=what, unit="picture", leave=False) as bar:
            for batch in pixels:
                names = ["patch_indices", "patch_values"]
                indices, values = self._sessions["patches"].run(names, {"pixels": batch})
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


def code_tables(
    graphs: BackboneGraphs, folder: Path, split: str, views: int, augment: AugmentConfig
) -> list[CodeTable]:
    """The split's pictures as evaluation sees them, then `views` tables of random views.

    Kept beside the data, under a digest of all that they depend on.
    """
    pictures: list[Any] | None = None
    tables = []
    for view in range(views + 1):
        path = folder / "codes" / f"{_key(graphs.bundle, folder, split, view, augment)}.safetensors"
        if not path.is_file():
            if pictures is None:
                pictures = [sample.picture() for sample in read_split(folder, split)]
            shown = _views(graphs.bundle, pictures, view, augment)
            table = graphs.table(shown, len(pictures), f"{split}, view {view}")
            path.parent.mkdir(exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.draft")
            save_file(
                {"indices": table.indices, "values": table.values, "offsets": table.offsets}, draft
            )
            draft.rename(path)
        tables.append(_read(path, graphs))
    return tables


def _read(path: Path, graphs: BackboneGraphs) -> CodeTable:
    arrays: dict[str, Any] = load_file(path)
    return CodeTable(patches=graphs.patches, concepts=graphs.concepts, **arrays)


def _views(
    bundle: Bundle, pictures: Sequence[Any], view: int, augment: AugmentConfig
) -> Iterator[NDArray[np.float32]]:
    if view == 0:
        for start in range(0, len(pictures), CHUNK):
            yield np.stack([bundle.preprocessor(p) for p in pictures[start : start + CHUNK]])
        return
    rgba = torch.from_numpy(np.stack([np.asarray(p).transpose(2, 0, 1) for p in pictures]))
    fresh = FreshViews(rgba, bundle.manifest.preprocessing.size, augment)
    for number, index in enumerate(torch.arange(len(pictures)).split(CHUNK)):
        generator = torch.Generator().manual_seed(view * 1_000_003 + number)
        yield fresh(index, generator).numpy()


def _key(bundle: Bundle, folder: Path, split: str, view: int, augment: AugmentConfig) -> str:
    graph = bundle.manifest.files["patches.onnx"].sha256
    chosen: list[Any] = [graph, split, view, asdict(augment) if view else None]
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    digest.update((folder / INDEX).read_bytes())
    return digest.hexdigest()[:32]
