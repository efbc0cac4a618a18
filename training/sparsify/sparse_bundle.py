"""Writes a dense bundle and a head as a sparse bundle. B batch, T tokens, S side, C concepts."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bundle.architecture import Architecture
from bundle.captions import CAPTIONS_FILE, CaptionsError, write_captions
from bundle.codes import ACTIVE_ABOVE
from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.manifest import Manifest, ModelOrigin, Parity, Training
from bundle.onnx_graph import GraphName, OnnxGraph
from bundle.store import write_version
from training.bundling.bundle_writer import CaptionCodes
from training.bundling.onnx_graphs import TopK
from training.bundling.onnx_parity import ParityTally
from training.sparsify.embeddings.dense_encoder import DenseBundle, unit_rows
from training.sparsify.heads._tower_head import TowerHead
from training.sparsify.heads.base import CodeHead
from training.sparsify.onnx_heads import HeadGraphError, write_sparse_graphs

_BATCH_SIZE = 8

DISTRIBUTION = "sparseclip"


@dataclass(frozen=True, kw_only=True)
class GoldenArrays:
    """Inputs on which the graphs are compared with torch, and by which TopK's widths are chosen."""

    pixels: NDArray[np.float32]
    """(B, 3, S, S)"""
    tokens: NDArray[np.int64]
    """(B, T)"""


def write_sparse_bundle(
    dense: DenseBundle,
    head: CodeHead,
    *,
    concepts: Iterable[NamedConcept],
    captions: CaptionCodes | None,
    record: Training,
    golden: GoldenArrays,
    card: str,
    models_dir: Path,
    name: str,
    version: str,
) -> Path:
    """Writes `models_dir/name/version`, makes it current, and returns its directory.

    `head` is one of `as_served`. Raises ParityError when a graph disagrees with torch,
    HeadGraphError, and BundleError for a version that exists. Then nothing is left behind.
    """
    graphs: dict[GraphName, Path] = {
        "image": dense.bundle.file("image.onnx"),
        "text": dense.bundle.file("text.onnx"),
    }
    if dense.bundle.manifest.architecture.patch_grid is not None:
        graphs["patches"] = dense.bundle.file("patches.onnx")
    topk = _choose_topk(dense, head, golden)

    def write(work: Path) -> Manifest:
        write_sparse_graphs(head, graphs, topk, work)
        parity = _check(dense, head, work, golden)
        ConceptVocabulary.write(work / "concepts.jsonl", concepts)
        if captions is not None:
            try:
                write_captions(work / CAPTIONS_FILE, captions.texts, captions.codes)
            except CaptionsError:
                raise HeadGraphError("--l0: so small that no caption has a concept") from None
        (work / "CARD.md").write_text(card, encoding="utf-8")
        for file in ("LICENSE", "tokenizer.json"):
            shutil.copyfile(dense.bundle.file(file), work / file)
        return dataclasses.replace(
            dense.bundle.manifest,
            name=name,
            version=version,
            kind="sparse",
            architecture=_architecture(dense, head, topk),
            training=record,
            origin=_origin(dense),
            image_parity=parity.image,
            text_parity=parity.text,
            patch_parity=parity.patches,
            files={},
        )

    return write_version(models_dir, name, version, write)


def _architecture(dense: DenseBundle, head: CodeHead, topk: TopK) -> Architecture:
    """The score becomes CLIP's softmax: the codes' own scale belongs to no sigmoid."""
    architecture = dense.bundle.manifest.architecture
    return dataclasses.replace(
        architecture,
        concepts=head.recipe.concepts,
        head="stacked",
        pool="cls",
        image_topk=topk.image,
        text_topk=topk.text,
        patch_topk=topk.patch if architecture.patch_grid else 0,
        logit_scale=head.scale,
        logit_scale_cap=head.recipe.scale_cap,
        score="softmax",
        logit_bias=0.0,
        config={},
    )


def _origin(dense: DenseBundle) -> ModelOrigin:
    origin = dense.bundle.manifest.origin
    if origin is not None:
        return dataclasses.replace(origin, teacher=dense.name)
    return ModelOrigin(
        source=f"bundle:{dense.name}",
        library=f"{DISTRIBUTION} {version_of(DISTRIBUTION)}",
        weights_sha256=dense.bundle.manifest.files["image.onnx"].sha256,
        teacher=dense.name,
    )


def _choose_topk(dense: DenseBundle, head: CodeHead, golden: GoldenArrays) -> TopK:
    """As training.bundling.onnx_parity.choose_topk: 1.5 times what the densest golden row needs,
    rounded up to a multiple of 32. A head that keeps K has its own."""
    patch = 0
    if dense.bundle.manifest.architecture.patch_grid is not None:
        graph = dense.graph("patches")
        patch = max(
            _most_active(head.image, graph.run(x, ["patch_dense"])["patch_dense"])
            for x in _batches(golden.pixels)
        )
    image = max(
        _most_active(head.image, dense.image_graph.run(x)["dense"]) for x in _batches(golden.pixels)
    )
    text = max(
        _most_active(head.text, dense.text_graph.run(x)["dense"]) for x in _batches(golden.tokens)
    )
    return TopK(
        image=_width(head.image, image),
        text=_width(head.text, text),
        patch=_width(head.image, patch),
    )


def _width(tower: TowerHead, most: int) -> int:
    return tower.keep or min(len(tower.bias), -(-max(1, most + most // 2) // 32) * 32)


class _Parities(NamedTuple):
    image: Parity
    text: Parity
    patches: Parity | None


def _check(dense: DenseBundle, head: CodeHead, folder: Path, golden: GoldenArrays) -> _Parities:
    """Compares the graphs with torch's head on the vectors of the dense bundle's own graphs."""
    image, text = ParityTally("image"), ParityTally("text")
    graphs: list[tuple[ParityTally, TowerHead, OnnxGraph, NDArray[np.generic]]] = [
        (image, head.image, dense.image_graph, golden.pixels),
        (text, head.text, dense.text_graph, golden.tokens),
    ]
    patches = None
    if dense.bundle.manifest.architecture.patch_grid is not None:
        patches = ParityTally("patches")
        graphs.append((patches, head.image, dense.graph("patches"), golden.pixels))
    for tally, tower, source, inputs in graphs:
        graph = OnnxGraph(folder / f"{tally.graph}.onnx", tally.graph)
        for x in _batches(inputs):
            before, after = source.run(x), graph.run(x)
            codes = _codes(tower, before["dense"])
            tally.add(codes, after["indices"], after["values"], after["active"])
            tally.add_dense(before["dense"], after["dense"])
            tally.add_norm(codes, after["norm"])
            if "patch_dense" in before:
                patch_codes = _codes(tower, before["patch_dense"])
                indices, values, active = (
                    after[f"patch_{name}"].reshape(len(patch_codes), -1)
                    for name in ("indices", "values", "active")
                )
                tally.add(patch_codes, indices, values, active[:, 0])
    return _Parities(image.result(), text.result(), None if patches is None else patches.result())


@torch.inference_mode()
def _codes(tower: TowerHead, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Codes (B, C) of dense vectors (B, D), or (B * P, C) of those of patches."""
    rows = unit_rows(vectors.reshape(-1, vectors.shape[-1]))
    codes: NDArray[np.float32] = tower(torch.from_numpy(rows)).numpy()
    return codes


def _most_active(tower: TowerHead, vectors: NDArray[np.float32]) -> int:
    return int((_codes(tower, vectors) > ACTIVE_ABOVE).sum(axis=1).max())


def _batches(items: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
