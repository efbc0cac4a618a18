"""What Sparse CLIP computes, and that CLIP is the same code."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F

from tests.training.conftest import tiny_recipe
from training.core.torchvision_compat import open_clip
from training.model import sparse_head as head_module
from training.model.build_towers import build_towers, tower_config
from training.model.sparse_clip import ModelConfig, SparseCLIP, normalize
from training.model.sparse_head import RepReLU, SparseHead


@pytest.mark.parametrize(
    ("head", "pool"), list(itertools.product(["replaced", "stacked"], ["cls", "patch_mean"]))
)
def test_shapes_and_sparsity(head: str, pool: str) -> None:
    model = SparseCLIP(tiny_recipe(model={"head": head, "pool": pool}).model)
    pixels, tokens = torch.randn(3, 3, 32, 32), torch.randint(1, 600, (3, 12))
    image, text = model.encode_image(pixels), model.encode_text(tokens)
    dense = 16 if head == "stacked" else 32
    assert image.codes.shape == text.codes.shape == (3, 128)
    assert image.dense.shape == text.dense.shape == (3, dense)
    assert model.encode_patches(pixels).shape == (3, 4, 128)
    assert model.patch_grid == (2, 2)
    for codes in (image.codes, text.codes):
        assert (codes >= 0).all()
        assert 0 < (codes == 0).float().mean() < 1


@pytest.mark.parametrize("bias", [None, -0.5])
def test_image_code_is_the_mean_of_its_map(
    monkeypatch: pytest.MonkeyPatch, bias: float | None
) -> None:
    model = SparseCLIP(dataclasses.replace(tiny_recipe().model, bias=bias))
    pixels = torch.randn(2, 3, 32, 32)
    codes = model.encode_image(pixels).codes
    torch.testing.assert_close(codes, model.encode_patches(pixels).mean(dim=1))
    whole = torch.autograd.grad(codes.square().sum(), model.image_head.project.weight)[0]
    # In slices of a few concepts, recomputed backward: the same values and gradients.
    monkeypatch.setattr(head_module, "PATCH_CODES_PER_SLICE", 64)
    sliced = model.encode_image(pixels).codes
    torch.testing.assert_close(sliced, codes)
    again = torch.autograd.grad(sliced.square().sum(), model.image_head.project.weight)[0]
    torch.testing.assert_close(again, whole)


def test_dense_clip_is_open_clip() -> None:
    """With the ReLU off and width 1, the loss's inputs are those of open_clip's own model."""
    config = tower_config("ViT-B-32", {"layers": 2}, {"layers": 2})
    theirs = open_clip().CustomTextCLIP(
        embed_dim=512, vision_cfg=config["vision_cfg"], text_cfg=config["text_cfg"]
    )
    theirs.eval()
    ours = SparseCLIP(
        ModelConfig(
            name="ViT-B-32",
            vision={"layers": 2},
            text={"layers": 2},
            width_factor=1,
            relu=False,
            head="replaced",
        )
    ).eval()
    weights = theirs.state_dict()
    with torch.no_grad():
        ours.image_head.project.weight.copy_(weights.pop("visual.proj").T)
        ours.text_head.project.weight.copy_(weights.pop("text.text_projection").T)
        ours.log_scale.copy_(weights.pop("logit_scale"))
    renamed = {
        k.replace("visual.", "image.trunk.", 1)
        if k.startswith("visual.")
        else k.replace("text.", "text.trunk.", 1): v
        for k, v in weights.items()
    }
    missing, unexpected = ours.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert set(missing) == {"image_head.project.weight", "text_head.project.weight", "log_scale"}
    pixels = torch.randn(2, 3, 224, 224)
    tokens = open_clip().get_tokenizer("ViT-B-32")(["a cat", "a red car"])
    with torch.no_grad():
        torch.testing.assert_close(
            normalize(ours.encode_image(pixels).codes), theirs.encode_image(pixels, normalize=True)
        )
        torch.testing.assert_close(
            normalize(ours.encode_text(tokens).codes), theirs.encode_text(tokens, normalize=True)
        )


def test_stacked_adds_the_paper_s_parameters() -> None:
    head = SparseHead(1024, 768, 55_296, kind="stacked", relu=True, rep_relu=False)
    assert head.project.weight.numel() == 42_467_328


def test_rep_relu_is_relu_forward_and_gelu_backward() -> None:
    x = torch.linspace(-3, 3, 41, requires_grad=True)
    y = RepReLU.apply(x)
    torch.testing.assert_close(y, F.relu(x))
    (ours,) = torch.autograd.grad(y.sum(), x)
    (gelu,) = torch.autograd.grad(F.gelu(x).sum(), x)
    torch.testing.assert_close(ours, gelu)


def test_scale_is_capped() -> None:
    model = SparseCLIP(tiny_recipe(model={"logit_scale_cap": 15.0}).model)
    with torch.no_grad():
        model.log_scale.fill_(5.0)
    assert float(model.scale.detach()) == pytest.approx(15.0)
    model.clamp_scale()
    assert float(model.log_scale.exp()) == pytest.approx(15.0)


LITE = {
    "timm_model_name": "tf_efficientnet_lite0",
    "timm_pool": "",
    "timm_proj": "none",
    "image_size": 64,
}
TEXT = {"width": 32, "heads": 2, "layers": 1, "vocab_size": 600, "context_length": 8}


def test_an_output_stride_gives_a_finer_grid_with_the_same_weights() -> None:
    coarse = build_towers(tower_config("", LITE, TEXT), 16).image
    fine = build_towers(tower_config("", LITE | {"output_stride": 16}, TEXT), 16).image
    assert (coarse.grid, fine.grid) == ((2, 2), (4, 4))
    assert fine.width == coarse.width
    fine.load_state_dict(coarse.state_dict())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output_stride": 12}, "must be one of 8, 16, 32"),
        ({"timm_model_name": "vit_tiny_patch16_224", "output_stride": 16}, "has a fixed one"),
        ({"output_strid": 16}, "did you mean output_stride"),
    ],
)
def test_an_output_stride_that_cannot_be_is_refused(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"model\.vision\.output_strid.*{message}"):
        build_towers(tower_config("", LITE | values, TEXT), 16)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ValueError, match=r"model\.name: .*ViT-B-33"):
        tower_config("ViT-B-33", {}, {})
    with pytest.raises(ValueError, match=r"model\.text\.layer: .* did you mean layers"):
        tower_config("", {}, {"layer": 2})
    with pytest.raises(ValueError, match=r"model\.vision"):
        build_towers(
            {
                "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64},
                "text_cfg": {"width": 32, "heads": 2, "layers": 1},
            },
            16,
        )
