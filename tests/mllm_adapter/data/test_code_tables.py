"""Codes of a data set: the same as the graph's, and computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.manifest import Preprocessing
from bundle.preprocessor import Preprocessor
from bundle.store import open_bundle
from mllm_adapter.data.code_tables import (
    BackboneGraphs,
    CodeTable,
    cached_code_table,
    cached_code_tables,
    check_backbone,
    random_views,
)
from mllm_adapter.data.image_collection import ImageCollection, LabelledImages
from mllm_adapter.model.adapter import AdapterError
from training.data.shards import read_split
from training.loading.augment import AugmentConfig
from training.loading.pair_data import PairData


@pytest.fixture(scope="module")
def graphs(tiny_bundle: Path) -> BackboneGraphs:
    return BackboneGraphs(open_bundle(tiny_bundle), threads=1)


def test_a_table_holds_the_codes_of_the_graph(graphs: BackboneGraphs, icons: Path) -> None:
    images = [sample.image() for sample in read_split(icons, "train")][:3]
    pixels = np.stack([graphs.bundle.preprocessor(image) for image in images])
    table = graphs.table([pixels[:2], pixels[2:]], 3, "codes")
    assert len(table) == 3
    expected = graphs.codes(pixels).dense(graphs.concepts)
    assert (expected > 0).any()
    for images_of_batch in ([0, 1, 2], [2, 0], [1]):
        codes = table.codes(images_of_batch).dense(graphs.concepts)
        torch.testing.assert_close(table.means(images_of_batch).to_dense(), codes.mean(1))
        # The table's values are float16.
        torch.testing.assert_close(codes, expected[images_of_batch], atol=1e-3, rtol=1e-3)


def test_a_patch_without_concepts_is_empty() -> None:
    table = CodeTable(
        indices=np.array([3, 1, 0], np.uint16),
        values=np.array([1, 2, 3], np.float16),
        offsets=np.array([0, 2, 2, 2, 3]),  # two images of two patches, of which two are empty
        patches=2,
        concepts=4,
    )
    expected = torch.zeros(2, 2, 4)
    expected[0, 0, 3], expected[0, 0, 1], expected[1, 1, 0] = 1, 2, 3
    assert torch.equal(table.codes([0, 1]).dense(4), expected)


def test_codes_are_computed_once_per_source_and_view(
    graphs: BackboneGraphs, icons: Path, tmp_path: Path
) -> None:
    images = [sample.image() for sample in read_split(icons, "train")][:2]
    augment = AugmentConfig()
    train = ImageCollection(
        source=("icons", "train"), count=2, images=lambda: images, folder=tmp_path
    )
    first = cached_code_table(graphs, train, 1, augment)

    def unread() -> list[Image.Image]:
        raise AssertionError("the images are read again")

    again = cached_code_table(graphs, replace(train, images=unread), 1, augment)
    for name in ("indices", "values", "offsets"):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    for source, view in ((("icons", "val"), 1), (("icons", "train"), 2), (("icons", "train"), 0)):
        cached_code_table(graphs, replace(train, source=source), view, augment)
    assert len(list(tmp_path.iterdir())) == 4


def test_views_of_a_split_differ(graphs: BackboneGraphs, icons: Path) -> None:
    images = LabelledImages.read(PairData(icons), "train", icons).collection
    plain, *views = cached_code_tables(graphs, images, 2, AugmentConfig())
    assert len(plain) == len(views[0]) == len(views[1]) > 0
    assert not np.array_equal(plain.offsets, views[0].offsets)
    assert not np.array_equal(views[0].offsets, views[1].offsets)


def test_more_concepts_than_16_bits_and_large_values(
    graphs: BackboneGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a head over another library's tower may have them."""
    monkeypatch.setattr(graphs, "concepts", 2**16 + 8)
    large = (np.array([[[2**16 + 7]]]), np.array([[[1e5]]], np.float32))
    monkeypatch.setattr(graphs, "_patches", lambda pixels: large)
    monkeypatch.setattr(graphs, "patches", 1)
    table = graphs.table([np.zeros((1, 3, 8, 8), np.float32)], 1, "codes")
    codes = table.codes([0])
    assert (codes.indices.item(), codes.values.item()) == (2**16 + 7, 1e5)


@pytest.mark.parametrize("resize", ["squash", "shortest_crop", "longest_pad"])
def test_random_views_follow_the_manifest(resize: str) -> None:
    """Images of a user's own have any size; mean and deviation are the bundle's."""
    preprocessing = Preprocessing(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, resize=resize)  # type: ignore[arg-type]
    images = [Image.new("RGB", size, (255, 0, 0)) for size in ((40, 40), (700, 30), (20, 90))]
    still = AugmentConfig(scale=(1, 1), aspect=0, rotate=0, shift=0, background=0, colour=0, grey=0)
    preprocessor = Preprocessor(preprocessing)
    views = random_views(preprocessor, images, still, torch.Generator().manual_seed(0))
    expected = np.stack([preprocessor(image) for image in images])
    np.testing.assert_allclose(views, expected, atol=0.02)


def test_a_backbone_without_patch_codes_is_refused_with_advice(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    architecture = manifest.architecture
    name = f"bundle {manifest.name}/{manifest.version}"
    pooled = replace(architecture, patch_grid=None, patch_topk=0)
    with pytest.raises(AdapterError, match=f"^{name} has no patches, .*: take a model"):
        check_backbone(replace(manifest, architecture=pooled))
    dense = replace(pooled, concepts=0)
    with pytest.raises(AdapterError, match=f"^{name} is dense, .*sparseclip sparsify"):
        check_backbone(replace(manifest, architecture=dense))
