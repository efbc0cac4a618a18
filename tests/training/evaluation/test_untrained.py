"""The untrained head: it has the model's shape and L0, and nothing of its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundle.encoded_images import noise
from tests.support.paths import ICONS
from tests.training.conftest import tiny_recipe
from training.evaluation.encoder import BundleEncoder, CheckpointEncoder
from training.evaluation.evaluate import (
    agreement_cells,
    clarity_cells,
    encode_splits,
    evaluate_split,
    figures_by_name,
)
from training.evaluation.metrics import Floats, unit
from training.evaluation.untrained import UntrainedHead, as_few, untrained_head
from training.trainer.loop import train


class Letters:
    """Judges by how often letters occur."""

    name = "letters"

    def __call__(self, texts: Sequence[str]) -> Floats:
        rows = [[text.lower().count(chr(c)) for c in range(97, 123)] for text in texts]
        return unit(np.array(rows, dtype=np.float32) + 0.1)


@pytest.fixture(scope="module", params=["patch_mean", "cls"])
def encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CheckpointEncoder:
    """A few steps on the committed icons."""
    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(model={"pool": request.param, "bias": -1.0}), folder, stop_after=2)
    return CheckpointEncoder(folder)


def test_rows_keep_as_many_as_the_model_has() -> None:
    codes = np.array([[3, 1, 2, 0], [3, 1, 2, 4], [0, 0, 1, 0], [2, 2, 1, 0]], dtype=np.float32)
    model = np.array([[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], dtype=np.float32)
    expected = [[3, 0, 2, 0], [0, 0, 0, 0], [0, 0, 1, 0], [2, 2, 0, 0]]  # ties stay together
    assert as_few(codes, model).tolist() == expected


def test_it_stands_beside_the_model_s_own_codes(encoder: CheckpointEncoder) -> None:
    images = [noise(40, 40).convert("RGB"), noise(24, 48).convert("RGB")]
    both = UntrainedHead(encoder).beside(images)
    own, control = np.split(both, 2, axis=1)
    np.testing.assert_allclose(own, encoder.images(images), atol=1e-6)
    assert ((own > 0).sum(axis=1) == (control > 0).sum(axis=1)).all()
    assert (own != control).any()
    np.testing.assert_array_equal(both, UntrainedHead(encoder).beside(images))
    assert (both != UntrainedHead(encoder, seed=1).beside(images)).any()


def test_texts_stand_beside_the_model_s_own_codes(encoder: CheckpointEncoder) -> None:
    texts = ["a cat", "dog", "sailing boat"]
    own, control = np.split(UntrainedHead(encoder).texts_beside(texts), 2, axis=1)
    np.testing.assert_allclose(own, encoder.texts(texts), atol=1e-6)
    assert ((own > 0).sum(axis=1) == (control > 0).sum(axis=1)).all()
    assert (own != control).any()


def test_it_has_nothing_of_the_trained_head(encoder: CheckpointEncoder) -> None:
    images = [noise(40, 40).convert("RGB")]
    before = UntrainedHead(encoder).beside(images)
    state = torch.get_rng_state()
    with torch.no_grad():
        kept = encoder.model.image_head.project.weight.clone()
        encoder.model.image_head.project.weight.neg_()
    try:
        after = UntrainedHead(encoder).beside(images)
    finally:
        with torch.no_grad():
            encoder.model.image_head.project.weight.copy_(kept)
    assert (torch.get_rng_state() == state).all()
    concepts = before.shape[1] // 2
    assert (before[:, :concepts] != after[:, :concepts]).any()
    fires = (before[:, concepts:] > 0) & (after[:, concepts:] > 0)
    assert fires.any()
    np.testing.assert_array_equal(before[:, concepts:][fires], after[:, concepts:][fires])


def test_figures_of_a_run_have_it(encoder: CheckpointEncoder) -> None:
    figures = evaluate_split(encoder, ICONS, "test_style", Letters())
    assert figures.clarity is not None
    assert figures.clarity_untrained is not None
    names = figures_by_name([figures])
    for figure in ("clarity", "monosemanticity"):
        expected = round(getattr(figures.clarity_untrained, figure), 3)
        assert names[f"test_style.{figure}_untrained.letters"] == expected
    assert figures.clarity_untrained != figures.clarity
    assert figures.agreement is not None
    assert figures.agreement_untrained is not None
    assert figures.agreement != figures.agreement_untrained
    expected = round(figures.agreement_untrained.agreement, 3)
    assert names["test_style.agreement_untrained.letters"] == expected
    assert agreement_cells(figures)[4] == f"{figures.agreement_untrained.agreement:.3f}"
    assert clarity_cells(figures)[4] == f"{figures.clarity_untrained.clarity:.3f}"
    assert clarity_cells(figures)[7] == f"{figures.clarity_untrained.monosemanticity:.3f}"
    assert evaluate_split(encoder, ICONS, "test_style").clarity_untrained is None
    splits = encode_splits(encoder, ICONS, ["train", "test_style"], control=UntrainedHead(encoder))
    assert [split.control is None for split in splits] == [True, False]
    [alone] = encode_splits(encoder, ICONS, ["test_style"])
    np.testing.assert_allclose(splits[1].codes, alone.codes, atol=1e-6)


def test_a_bundle_and_a_model_without_concepts_have_none(tiny_bundle: Path, tmp_path: Path) -> None:
    assert untrained_head(BundleEncoder(tiny_bundle)) is None
    train(tiny_recipe(model={"relu": False}), tmp_path, stop_after=1)
    assert untrained_head(CheckpointEncoder(tmp_path)) is None
