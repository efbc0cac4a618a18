"""Pictures of phrases: exactly what an edit of the same phrase makes of the same patches."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from bundle.store import open_bundle
from mllm_adapter.data.code_tables import BackboneGraphs, CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.data.text_pictures import LabelledRow, TextPictures
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan, apply_steering
from mllm_adapter.steering.text_to_concepts import TextCodes
from training.data.data_recipe import DataError

PHRASES = ["cat", "dog", "rocket", "red apple"]
GRID = (4, 4)
STILL: dict[str, Any] = {"share": 0.5, "noise": 0.0, "strength": (2.0, 2.0), "part": 0.0}


@pytest.fixture(scope="module")
def graphs(tiny_bundle: Any) -> BackboneGraphs:
    return BackboneGraphs(open_bundle(tiny_bundle), threads=1)


def table(graphs: BackboneGraphs, images: int = 3) -> CodeTable:
    """Every patch of an image has 40 of the concepts."""
    draw = np.random.default_rng(0)
    cells = images * graphs.patches
    indices = [np.sort(draw.permutation(graphs.concepts)[:40]) for _ in range(cells)]
    return CodeTable(
        indices=np.concatenate(indices).astype(np.uint16),
        values=draw.uniform(0.5, 1, cells * 40).astype(np.float32),
        offsets=np.arange(cells + 1) * 40,
        patches=graphs.patches,
        concepts=graphs.concepts,
    )


def pictures(graphs: BackboneGraphs, **settings: Any) -> TextPictures:
    """One image, whose caption is the last of the phrases."""
    config = TextsConfig(**{**STILL, **settings})
    codes = PhraseConcepts.of(PHRASES, graphs, config.top)
    labels = PhraseConcepts.of(["red apple"], graphs, 32)
    return TextPictures(codes, config, table(graphs), labels, [LabelledRow(1, 0)], GRID)


def edited(graphs: BackboneGraphs, base: torch.Tensor, edits: list[WordEdit]) -> torch.Tensor:
    encode = TextCodes(graphs.texts, graphs.concepts).encode
    plan = SteeringPlan(edits=expand(edits, encode))
    return apply_steering(base, SteeringBatch.from_plans([plan], base.shape[1]))


@pytest.mark.parametrize("phrase", range(3))
@pytest.mark.parametrize("top", [4, 32])
def test_a_phrase_on_empty_patches_is_what_set_makes(
    graphs: BackboneGraphs, phrase: int, top: int
) -> None:
    codes = pictures(graphs, kept=0.0, top=top)([phrase], random.Random(0))
    empty = torch.zeros(1, graphs.patches, graphs.concepts)
    wanted = edited(graphs, empty, [WordEdit(word=PHRASES[phrase], op="SET", value=2.0, top=top)])
    assert wanted.max() == 2
    torch.testing.assert_close(codes.dense(graphs.concepts), wanted)


def test_a_phrase_on_an_image_is_what_a_swap_makes(graphs: BackboneGraphs) -> None:
    codes = pictures(graphs, kept=1.0)([0], random.Random(0))
    base = table(graphs).codes([1]).dense(graphs.concepts)
    wanted = edited(
        graphs,
        base,
        [
            WordEdit(word="cat", op="SET", value=2.0),
            WordEdit(word="red apple", op="ABLATE", top=32),
        ],
    )
    assert (wanted != base).any()
    torch.testing.assert_close(codes.dense(graphs.concepts), wanted)


def test_two_phrases_are_on_parts_that_cover_all_patches_in_order(graphs: BackboneGraphs) -> None:
    draw = pictures(graphs, kept=0.0)
    rng = random.Random(0)
    alone = [draw([row], rng).dense(graphs.concepts)[0, 0] for row in (0, 1)]
    assert not torch.equal(*alone)
    cuts = set()
    for _ in range(60):
        dense = draw([0, 1], rng).dense(graphs.concepts)[0]
        first = [torch.equal(patch, alone[0]) for patch in dense]
        second = [torch.equal(patch, alone[1]) for patch in dense]
        assert [not x for x in first] == second
        assert 4 <= sum(first) <= 12
        rows = np.array(first).reshape(GRID)
        assert (rows.ravel()[: sum(first)]).all() or (rows.T.ravel()[: sum(first)]).all()
        cuts.add(tuple(first))
    assert len(cuts) > 5


def test_parts_strength_and_noise_vary_within_their_bounds(graphs: BackboneGraphs) -> None:
    rng = random.Random(0)
    part = pictures(graphs, kept=0.0, part=1.0)
    active = [(part([0], rng).values > 0).any(2).sum().item() for _ in range(50)]
    assert 4 <= min(active) < max(active) <= 12
    strong = pictures(graphs, kept=0.0, strength=(1.0, 4.0))
    peaks = [strong([0], rng).values.max().item() for _ in range(50)]
    assert 1 <= min(peaks) < 1.6
    assert 3 < max(peaks) <= 4
    noisy = [pictures(graphs, kept=0.0, noise=0.2)([0], rng).values[0, 0] for _ in range(2)]
    assert not torch.equal(*noisy)


def test_nothing_is_empty(graphs: BackboneGraphs) -> None:
    codes = pictures(graphs, kept=1.0)([], random.Random(0))
    assert isinstance(codes, PatchCodes)
    assert codes.indices.shape[:2] == (1, graphs.patches)
    assert codes.values.sum() == 0


def test_one_patch_has_no_parts(graphs: BackboneGraphs) -> None:
    codes = PhraseConcepts.of(PHRASES, graphs, 4)
    one = CodeTable(
        indices=np.zeros(1, np.uint16),
        values=np.ones(1, np.float32),
        offsets=np.array([0, 1]),
        patches=1,
        concepts=graphs.concepts,
    )
    config = TextsConfig(**STILL, pairs=0.0)
    pictures = TextPictures(codes, config, one, codes, [LabelledRow(0, 0)], (1, 1))
    assert (pictures([0], random.Random(0)).values > 0).any()
    with pytest.raises(DataError, match=r"texts\.pairs, texts\.part: must be 0"):
        TextPictures(codes, TextsConfig(share=0.5), one, codes, [LabelledRow(0, 0)], (1, 1))
