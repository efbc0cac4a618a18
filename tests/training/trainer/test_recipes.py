"""Every recipe of the project: its figures, its model at full size, and a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bundle.schema import SchemaError
from tests.support.tiny_encoders import write_encoder
from training.core.torchvision_compat import open_clip
from training.loading.pairs import PairBatch
from training.losses import LOSSES
from training.model.sentence_source import resolved_text
from training.model.sentence_tower import KEY
from training.model.sparse_clip import LossInputs, SparseCLIP
from training.trainer.step import TrainingStep
from training.trainer.trained_model import new_model
from training.trainer.training_recipe import TrainingRecipe


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny sentence encoder, in place of the one that a recipe would fetch."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def load(name: str, encoder: Path) -> TrainingRecipe:
    """A recipe, over the tiny sentence encoder if over any."""
    recipe = TrainingRecipe.load(name)
    if KEY not in recipe.model.text:
        return recipe
    named = {**recipe.model.text, KEY: str(encoder), "context_length": 12}
    model = dataclasses.replace(recipe.model, text=resolved_text(named))
    return dataclasses.replace(recipe, model=model)


def test_the_recipes_are_there() -> None:
    assert TrainingRecipe.names() == [
        "demo",
        "demo_fine",
        "paper_large",
        "paper_large_plus",
        "paper_small",
        "warm_start",
    ]


@pytest.mark.parametrize(
    ("name", "concepts", "cap"),
    [
        ("paper_small", 16_384, 100.0),
        ("paper_large", 55_296, 50.0),
        ("paper_large_plus", 55_296, 40.0),
    ],
)
def test_the_paper_s_figures(name: str, concepts: int, cap: float) -> None:
    model = TrainingRecipe.load(name).model
    assert model.concepts == concepts
    assert model.logit_scale_cap == cap


@pytest.mark.parametrize("name", TrainingRecipe.names())
def test_every_weight_has_a_gradient_at_full_size(name: str, encoder: Path) -> None:
    """On the meta device: all shapes of the forward and backward pass, and no numbers. A sentence
    encoder keeps its vectors by the numbers of their tokens, so its recipe has some."""
    recipe = load(name, encoder)
    open_clip()  # its import makes tensors of its own
    with torch.device("cpu" if KEY in recipe.model.text else "meta"):
        model = new_model(recipe)  # warm_start's towers, random: no hub in a test
        batch = random_batch(model)
        outputs: LossInputs = model(batch.pixels, batch.tokens)
    for codes in (outputs.image, outputs.text):
        assert codes.shape == (2, recipe.model.concepts)
    assert model.encode_patches(batch.pixels).shape == (2, patches(model), recipe.model.concepts)
    torch.stack([part.sum() for part in outputs[:3]]).sum().backward()
    assert without_gradient(model) <= unused(recipe)


@pytest.mark.parametrize("name", TrainingRecipe.names())
def test_steps_at_a_small_size(name: str, encoder: Path) -> None:
    """The recipe's own kinds of towers, heads and loss, with fewer and narrower layers."""
    recipe = small(load(name, encoder))
    torch.manual_seed(0)
    model = new_model(recipe)
    loss = LOSSES.load(recipe.loop.loss)(tile=1)
    # Batch statistics, as the demo's trunk has them, want more than one pair.
    micro_batch = 0 if name == "demo" else 1
    step = TrainingStep(
        model, loss, micro_batch=micro_batch, precision="fp32", device=torch.device("cpu")
    )
    result = step(random_batch(model))
    assert torch.isfinite(result.loss)
    assert result.fired.shape == (recipe.model.concepts,)
    assert without_gradient(model) <= unused(recipe)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def small(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with a model that makes a step in a fraction of a second."""
    model = recipe.model
    vision = {"image_size": 64}
    if "timm_model_name" not in model.vision:
        patch = {"ViT-B-32": 32, "ViT-L-14": 14}[model.name]
        vision = {"image_size": 2 * patch, "width": 32, "layers": 2, "head_width": 16}
    text: dict[str, object] = {"hidden": 32}
    if KEY not in model.text:
        text = {"width": 32, "heads": 2, "layers": 1, "vocab_size": 600, "context_length": 12}
    changed = dataclasses.replace(
        model, vision={**model.vision, **vision}, text={**model.text, **text}, embed_dim=16
    )
    return dataclasses.replace(recipe, model=changed)


def random_batch(model: SparseCLIP) -> PairBatch:
    """Two pairs of noise."""
    side, text = model.image.image_size, model.text
    return PairBatch(
        torch.randn(2, 3, side, side),
        torch.randint(1, text.vocabulary, (2, text.context_length)),
    )


def patches(model: SparseCLIP) -> int:
    rows, columns = model.patch_grid
    return rows * columns


def without_gradient(model: SparseCLIP) -> set[str]:
    learn = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return {name for name, weight in learn.items() if weight.grad is None}


def unused(recipe: TrainingRecipe) -> set[str]:
    """Weights that a recipe's codes do not depend on."""
    return {"image.trunk.class_embedding"} if recipe.model.pool == "patch_mean" else set()


def test_a_recipe_survives_its_own_dict() -> None:
    recipe = TrainingRecipe.load("demo", ["loop.epochs=2", "model.pool=cls", "loop.ground=0"])
    assert recipe.loop.epochs == 2
    assert recipe.model.pool == "cls"
    assert TrainingRecipe.parse(recipe.to_dict()) == recipe


def test_the_scale_starts_under_its_cap(encoder: Path) -> None:
    """The demo names no initial scale: CLIP's 14.3 would be over its cap of 12."""
    assert TrainingRecipe.load("demo").model.initial_scale == 12.0
    free = TrainingRecipe.load("demo", ["model.logit_scale_cap=100.0"])
    assert free.model.initial_scale == pytest.approx(1 / 0.07)
    demo = load("demo", encoder)
    low = dataclasses.replace(demo, model=dataclasses.replace(demo.model, logit_scale_init=5.0))
    assert float(new_model(small(low)).scale.detach()) == pytest.approx(5.0)


def test_a_run_from_before_a_key_keeps_what_it_did() -> None:
    recipe = TrainingRecipe.load("demo")
    saved = recipe.to_dict()
    del saved["loop"]["mask_equal_captions"], saved["loop"]["l1"], saved["model"]["top_k"]
    saved["model"]["logit_scale_init"] = 1 / 0.07
    read = TrainingRecipe.parse_saved(saved)
    assert recipe.loop.mask_equal_captions
    assert not read.loop.mask_equal_captions
    assert read.model == recipe.model
    saved["model"]["logit_scale_cap"] = 0.5  # which a new run may not have
    assert TrainingRecipe.parse_saved(saved).model.logit_scale_cap == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loop.epoch=2", r"loop\.epoch: unknown key; did you mean epochs"),
        ("model.pool=mean", r"model\.pool: must be one of cls, patch_mean"),
        ("loop.batch_size=many", r"loop\.batch_size: must be int"),
        ("loop.batch_size=0", r"loop\.batch_size: must be 1 or more"),
        ("loop.loss=clop", r"loop\.loss: .*'clop' is none of clip; did you mean clip"),
        ("loop.epochs=.inf", r"loop\.epochs: must be a finite number"),
        ("optimizer.lr=.nan", r"optimizer\.lr: must be a finite number"),
        ("optimizer.image_trunk=-0.1", r"optimizer\.image_trunk: must be 0 or more"),
        ("data.cached_views=-1", r"data\.cached_views: must be 0 or more"),
        ("start.unlocked_groups=-1", r"start\.unlocked_groups: must be 0 or more"),
        ("augment.grey=1.5", r"augment\.grey: must be 0 to 1"),
        ("model.logit_scale_cap=0.5", r"model\.logit_scale_cap: must be 1 or more"),
        ("model.logit_scale_init=14.3", r"model\.logit_scale_init: over .*logit_scale_cap \(12\)"),
        ("model.relu=false", r"model\.rep_relu: wants model\.relu"),
        ("model.top_k=0", r"model\.top_k: must be 1 or more"),
        ("model.top_k=5000", r"model\.top_k: over the 4096 concepts"),
        ("loop.output_stride=16", r"loop\.output_stride: must be above model\.vision\.output_str"),
        ("loop.output_stride=64", r"loop\.output_stride: must be one of 8, 16, 32"),
        ("loop.l1=-0.1", r"loop\.l1: must be 0 or more"),
        ("augment.jpeg_quality=[50, 20]", r"augment\.jpeg_quality: must be two numbers"),
        ("augment.scale=[1.2, 0.8]", r"augment\.scale: the first number"),
        ("start.pretrained=openai", r"start\.pretrained: wants start\.open_clip"),
        ("start.open_clip=ViT-B-32", r"start\.image: cannot be combined with start\.open_clip"),
        ("start.freeze_image=false", r"start\.unlocked_groups: wants start\.freeze_image"),
        ("loop", "an override is section.key=value"),
        ("name.x=1", "name holds no keys"),
    ],
)
def test_mistakes_name_their_field(override: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        TrainingRecipe.load("demo", [override])


def test_a_dense_model_has_no_strongest_concepts() -> None:
    dense = ["model.relu=false", "model.rep_relu=false", "model.top_k=8", "loop.ground=0"]
    with pytest.raises(SchemaError, match=r"^model\.top_k: wants model\.relu"):
        TrainingRecipe.load("demo", dense)


def test_unknown_recipe_names_the_known() -> None:
    with pytest.raises(SchemaError, match="there are demo, demo_fine, paper_large"):
        TrainingRecipe.load("demos")
