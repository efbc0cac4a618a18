"""What every head of the table must do, on embeddings of a few things."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bundle.codes import ACTIVE_ABOVE
from bundle.plugins import PluginError
from training.core.resume import TrainingError
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.head_options import HeadOptions
from training.sparsify.head_trainer import build_head, train_head
from training.sparsify.heads import HEADS
from training.sparsify.heads._tower_head import TowerHead
from training.sparsify.heads.base import HeadRecipe
from training.sparsify.onnx_heads import as_served

WIDTH, CONCEPTS, L0 = 16, 64, 0.125
OPTIONS = HeadOptions(concepts=CONCEPTS, l0=L0, steps=40, batch_size=32, texts=16, lr=0.01)


def head_data(*, captions: bool = True) -> HeadData:
    """Twelve things, their images and texts near each other, with a gap between the two towers."""
    generator = np.random.default_rng(0)
    things = generator.normal(size=(12, WIDTH))
    which = np.arange(240) % 12
    images = things[which] + 0.5 * generator.normal(size=(240, WIDTH)) + 0.5
    texts = things - 0.5
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    return HeadData(
        images=images.astype(np.float16),
        texts=torch.from_numpy(texts.astype(np.float32)),
        caption_rows=which if captions else which[:0],
        first=np.arange(241) if captions else np.zeros(241, dtype=np.int64),
        vocabulary=np.arange(12),
    )


def recipe(name: str, data: HeadData) -> HeadRecipe:
    made = OPTIONS.recipe(name, WIDTH, 20.0, data)
    # Nothing is trained: its concepts are words.
    return made if HEADS.load(name).trains else dataclasses.replace(made, concepts=12)


@pytest.mark.parametrize("name", HEADS.names)
def test_codes_are_sparse_and_find_the_right_text(name: str, tmp_path: Path) -> None:
    data = head_data()
    trained = train_head(recipe(name, data), data, tmp_path)
    head = as_served(trained.head)
    with torch.no_grad():
        images = head.image(torch.from_numpy(data.images.astype(np.float32)))
        texts = head.text(data.texts)
        before = trained.untrained.image(torch.from_numpy(data.images.astype(np.float32)))
    for codes in (images, texts, before):
        assert codes.min() >= 0
        assert (codes > ACTIVE_ABOVE).float().mean() <= L0 * 1.05
    cosine = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T
    right = (cosine.argmax(1).numpy() == np.arange(240) % 12).mean()
    assert right > 0.9
    assert head.scale > 1
    assert trained.seconds > 0


@pytest.mark.parametrize("name", HEADS.names)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    data = head_data()
    whole = train_head(recipe(name, data), data, tmp_path / "whole").head
    train_head(recipe(name, data), data, tmp_path / "cut", stop_after=13)
    resumed = train_head(recipe(name, data), data, tmp_path / "cut").head
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(value, resumed.state_dict()[key], rtol=0, atol=0, msg=key)


def test_without_captions_only_heads_that_need_none_are_trained(tmp_path: Path) -> None:
    data = head_data(captions=False)
    with pytest.raises(PluginError, match="contrastive: needs captions"):
        build_head(recipe("contrastive", data), data)
    train_head(recipe("distill", data), data, tmp_path, stop_after=2)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    data = head_data()
    data.texts[3] = torch.nan
    with pytest.raises(TrainingError, match="the loss is nan"):
        train_head(recipe("distill", data), data, tmp_path)


def test_a_rounding_error_at_the_threshold_makes_no_concept() -> None:
    tower = TowerHead(width=1, concepts=1)
    torch.nn.init.ones_(tower.weight)
    tower.threshold.fill_(0.5)
    x = torch.tensor([[0.5 * (1 + error)] for error in (-1e-5, 1e-5, 0.05)])
    below, above, beyond = tower.eval()(x).flatten().tolist()
    assert below == 0
    assert above < 1e-3, "an error of 1e-5 would be a code of 0.5"
    assert beyond == pytest.approx(0.525)


@pytest.mark.parametrize("change", ["an image", "a caption", "which image a caption is of"])
def test_other_data_are_another_run(change: str) -> None:
    images = np.zeros((4096, 2), dtype=np.float16)
    data = HeadData(
        images=images,
        texts=torch.zeros(4, 2),
        caption_rows=np.zeros(4096, dtype=np.int64),
        first=np.arange(4097),
        vocabulary=np.arange(4),
    )
    before = data.digest
    other = {
        "an image": {"images": np.where(np.arange(8192).reshape(-1, 2) == 7, 1, images)},
        "a caption": {"caption_rows": (np.arange(4096) == 7).astype(np.int64)},
        "which image a caption is of": {"first": np.arange(4097) + (np.arange(4097) == 7)},
    }[change]
    assert dataclasses.replace(data, **other).digest != before
