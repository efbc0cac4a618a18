"""Codes of a data set: the same as the graph's, and computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.store import open_bundle
from mllm_adapter.data.code_tables import (
    BackboneGraphs,
    CodeTable,
    cached_code_table,
    cached_code_tables,
)
from training.data.shards import read_split
from training.loading.augment import AugmentConfig


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
    first = cached_code_table(graphs, tmp_path, lambda: images, ("icons", "train"), 1, augment)

    def unread() -> list[object]:
        raise AssertionError("the images are read again")

    again = cached_code_table(
        graphs,
        tmp_path,
        unread,  # type: ignore[arg-type]
        ("icons", "train"),
        1,
        augment,
    )
    for name in ("indices", "values", "offsets"):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name
    for source, view in ((("icons", "val"), 1), (("icons", "train"), 2), (("icons", "train"), 0)):
        cached_code_table(graphs, tmp_path, lambda: images, source, view, augment)
    assert len(list(tmp_path.iterdir())) == 4


def test_views_of_a_split_differ(graphs: BackboneGraphs, icons: Path) -> None:
    plain, *views = cached_code_tables(graphs, icons, "train", 2, AugmentConfig())
    assert len(plain) == len(views[0]) == len(views[1]) > 0
    assert not np.array_equal(plain.offsets, views[0].offsets)
    assert not np.array_equal(views[0].offsets, views[1].offsets)
