"""TopK: only the strongest concepts of an image's and a text's code, in training and in graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from bundle.store import open_bundle
from tests.support.tiny_model import SIDE, TEXTS, export_tiny, tiny_images, tiny_model
from tests.training.conftest import tiny_recipe
from training.bundling.bundle_writer import load_weights
from training.bundling.onnx_parity import check_graphs
from training.model import sparse_head as head_module
from training.model.sparse_clip import SparseCLIP
from training.model.sparse_head import SparseHead
from training.trainer.loop import train
from training.trainer.trained_model import load_model

K = 5


def cut_model(pool: Literal["cls", "patch_mean"]) -> SparseCLIP:
    """The tiny model, with the same weights and a TopK in both heads."""
    model = tiny_model(pool=pool)
    model.config = dataclasses.replace(model.config, top_k=K)
    model.image_head.top_k = model.text_head.top_k = K
    return model


def strongest(codes: torch.Tensor) -> torch.Tensor:
    """The K largest of each row, one after another."""
    kept = torch.zeros_like(codes)
    for row, out in zip(codes, kept, strict=True):
        for index in row.argsort(descending=True)[:K]:
            out[index] = row[index]
    return kept


@pytest.mark.parametrize("pool", ["cls", "patch_mean"])
def test_images_and_texts_keep_their_strongest_and_patches_keep_all(
    pool: Literal["cls", "patch_mean"],
) -> None:
    whole, cut = tiny_model(pool=pool), cut_model(pool)
    pixels, tokens = torch.randn(3, 3, SIDE, SIDE), torch.randint(1, 600, (3, 16))
    with torch.no_grad():
        for before, after in (
            (whole.encode_image(pixels), cut.encode_image(pixels)),
            (whole.encode_text(tokens), cut.encode_text(tokens)),
        ):
            assert ((before.codes > 0).sum(1) > K).all()
            assert torch.equal(after.codes, strongest(before.codes))
            assert torch.equal(after.dense, before.dense)
        patches = cut.encode_patches(pixels)
        assert torch.equal(patches, whole.encode_patches(pixels))
        if pool == "patch_mean":  # the map of a kept concept still averages to its activation
            codes = cut.encode_image(pixels).codes
            torch.testing.assert_close(codes[codes > 0], patches.mean(1)[codes > 0])


def test_what_is_cut_gets_no_gradient_in_slices_or_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = SparseHead(16, 16, 64, kind="replaced", relu=True, rep_relu=True, bias=0.0, top_k=K)
    dense = torch.randn(1, 4, 16)
    codes = head.pooled_codes(dense)
    codes.sum().backward()
    gradient = head.project.weight.grad
    assert gradient is not None
    assert torch.equal(gradient.abs().sum(1) > 0, codes[0] > 0)
    assert int((codes > 0).sum()) == K
    head.zero_grad()
    monkeypatch.setattr(head_module, "PATCH_CODES_PER_SLICE", 4 * 10)
    sliced = head.pooled_codes(dense)
    sliced.sum().backward()
    torch.testing.assert_close(sliced, codes)
    torch.testing.assert_close(head.project.weight.grad, gradient)


def test_a_code_of_fewer_concepts_stays_as_it_is() -> None:
    head = SparseHead(4, 4, 8, kind="replaced", relu=True, rep_relu=False, top_k=K)
    codes = torch.tensor([[0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [0.0] * 8])
    assert torch.equal(head.cut(codes), codes)


@pytest.mark.parametrize("pool", ["cls", "patch_mean"])
def test_its_graphs_agree_with_torch(tmp_path: Path, pool: Literal["cls", "patch_mean"]) -> None:
    bundle = open_bundle(export_tiny(tmp_path, model=cut_model(pool)))
    model = load_weights(bundle)
    assert model.image_head.top_k == model.text_head.top_k == model.config.top_k == K
    pixels = np.stack([bundle.preprocessor(image) for image in tiny_images()])
    tokens = bundle.tokenizer.encode(TEXTS)
    folder = bundle.file("image.onnx").parent
    parity = check_graphs(model, folder, pixels, tokens)
    assert min(p.min_support_jaccard for p in parity) == 1
    # The gate can tell: the graphs are not those of the same weights without a TopK.
    model.image_head.top_k = model.text_head.top_k = None
    with pytest.raises(ValueError, match=r"^image\.onnx: "):
        check_graphs(model, folder, pixels, tokens)


def test_a_run_has_at_most_k_active_concepts(tmp_path: Path) -> None:
    train(tiny_recipe(model={"top_k": K}), tmp_path, stop_after=2)
    model, _ = load_model(tmp_path)
    with torch.no_grad():
        codes = model.encode_image(torch.randn(4, 3, 32, 32)).codes
    assert ((codes > 0).sum(1) == K).all()
