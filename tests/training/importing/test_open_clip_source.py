"""Models of open_clip: towers of each kind, and everything that is not read "nearly"."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.open_clip_models import write_open_clip, write_unigram
from bundle.onnx_graph import DENSE_OUTPUTS, INPUT
from bundle.open_tokenizer import open_tokenizer
from bundle.text import TextError, clean_text, without_ignorable
from tests.training.importing.tiny_open_clip import CONTEXT, MODELS, TEXT, VIT
from training.core.onnx_file import write_onnx
from training.core.torchvision_compat import open_clip
from training.huggingface.model_error import ModelImportError
from training.importing._gates import check_graph, check_tokens, golden
from training.importing._golden_inputs import CORPUS
from training.importing._open_clip_files import common_preprocessing
from training.importing._open_clip_tokenizer import CLEANINGS
from training.importing.base import ImportedModel, SourceOptions
from training.importing.open_clip_source import OpenClipSource

Folders = Callable[[str], Path]


def load(folder: Path) -> ImportedModel:
    return OpenClipSource().load(f"local-dir:{folder}", SourceOptions())


@pytest.mark.parametrize("name", MODELS)
def test_towers_give_what_the_library_gives(open_clip_folder: Folders, name: str) -> None:
    """Pixels and tokens pass their gates; so do, in torch, the vectors that graphs are made of."""
    model = load(open_clip_folder(name))
    folder = open_clip_folder(name)
    model.write_tokenizer(folder / "written.json")
    tokenizer = open_tokenizer(folder / "written.json", CONTEXT, model.tokenization)
    assert check_tokens(model, tokenizer) == len(CORPUS)
    given = golden(model, tokenizer)
    assert np.abs(given.pixels - given.library_pixels).mean() < 1e-3  # another resizer
    pixels = torch.from_numpy(given.library_pixels[:3])
    with torch.inference_mode():
        images, texts = model.image(pixels), model.text(torch.from_numpy(given.tokens))
    assert np.allclose(images, given.image_dense[:3], atol=1e-5)
    assert np.allclose(texts, given.text_dense, atol=1e-5)
    library: Any = model.reference._encode_image.__self__
    folded = len(list(model.image.modules())) < len(list(library.visual.modules()))
    assert folded == (name == "map")  # MobileOne's branches, of which serving has none
    bias = MODELS[name][0].get("init_logit_bias")
    assert model.score == ("softmax" if bias is None else "sigmoid")
    assert model.logit_bias == (bias or 0)
    assert model.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    if model.patches is None:
        assert name == "resnet"
        assert model.patch_grid is None
        return
    with torch.inference_mode():
        dense, patches = model.patches(pixels)
    assert np.allclose(dense, images, atol=1e-5)
    assert model.patch_grid is not None
    assert patches.shape == (3, np.prod(model.patch_grid), images.shape[1])


@pytest.mark.parametrize("name", ["vit", "attention", "map_norm"])
def test_a_patch_is_what_the_pooling_gives_for_it_alone(
    open_clip_folder: Folders, name: str
) -> None:
    """Computed a second time by the parts of the tower, for one patch."""
    model = load(open_clip_folder(name))
    pixels = torch.rand(1, 3, model.preprocessing.size, model.preprocessing.size)
    visual: Any = model.image.model.visual
    assert model.patches is not None
    with torch.inference_mode():
        patch = model.patches(pixels)[1][0, 3]
        if name == "vit":
            tokens = visual.transformer(visual._embeds(pixels))
            expected = visual.ln_post(tokens[0, 1 + 3]) @ visual.proj
        elif name == "attention":
            token = visual.trunk.forward_features(pixels)[:, 1 + 3][:, None]
            expected = visual.head(visual.trunk.fc_norm(visual.trunk.attn_pool(token)))[0]
        else:
            cell = visual.trunk.forward_features(pixels).flatten(2)[0, :, 3]
            expected = visual.head(visual.trunk.head.norm(cell[None, :, None, None]).flatten(1))[0]
    assert torch.allclose(patch, expected, atol=1e-5)


def test_an_architecture_takes_a_file_of_weights(
    open_clip_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training script's file: below `state_dict`, named by `module.`, in half precision."""
    from safetensors.torch import load_file

    from training.core.torchvision_compat import open_clip

    folder = open_clip_folder("vit")
    monkeypatch.setattr(
        "training.importing._open_clip_files._architecture", lambda name: name
    )  # a tiny architecture, which open_clip's folder does not hold
    shutil.copy(folder / "open_clip_config.json", tmp_path / "tiny.json")
    config = json.loads((tmp_path / "tiny.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip().factory._MODEL_CONFIGS, "tiny", config)
    weights = load_file(folder / "open_clip_model.safetensors")
    file = tmp_path / "epoch_32.pt"
    torch.save(
        {"epoch": 32, "state_dict": {f"module.{k}": v.half() for k, v in weights.items()}}, file
    )
    model = OpenClipSource().load("tiny", SourceOptions(weights=file))
    assert model.family == "open_clip:tiny"
    [scale] = [v for k, v in weights.items() if k == "logit_scale"]
    assert model.logit_scale == pytest.approx(float(scale.exp()), rel=1e-3)


def test_a_file_of_weights_gets_its_architectures_preprocessing_or_none() -> None:
    assert common_preprocessing("ViT-B-16-SigLIP")["resize_mode"] == "squash"
    assert common_preprocessing("ViT-B-16-SigLIP")["mean"] == (0.5, 0.5, 0.5)
    assert common_preprocessing("ViT-S-32") == {}  # no pretrained weights: CLIP's own
    with pytest.raises(ModelImportError, match="ViT-L-14 differ in their preprocessing; put"):
        common_preprocessing("ViT-L-14")


def test_a_folder_is_called_by_its_last_name(tmp_path: Path) -> None:
    source = OpenClipSource()
    assert source.label("ViT-B-32/openai") == "ViT-B-32/openai"
    assert source.label("hf-hub:laion/CLIP") == "hf-hub:laion/CLIP"
    assert source.label(f"local-dir:{tmp_path / 'mine'}/") == "local-dir:mine"


def with_config(folder: Path, target: Path, section: str, **values: object) -> Path:
    """A copy whose configuration says something else than its weights."""
    shutil.copytree(folder, target)
    content = json.loads((target / "open_clip_config.json").read_text())
    if section == "preprocess_cfg":
        content[section] |= values
    else:
        content["model_cfg"][section] |= values
    (target / "open_clip_config.json").write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("text_cfg", {"vocab_size": 49409}, r"token_embedding.weight has the shape \(49408, 32\)"),
        ("text_cfg", {"tokenizer_mode": "clips"}, "tokenizer_mode: 'clips' is not run"),
        ("text_cfg", {"tokenizer_kwargs": {"strip_sep_token": True}}, "strip_sep_token"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "whitespace"}}, "only the default"),
        ("text_cfg", {"tokenizer_kwargs": {"reduction_mask": "simple"}}, "only the default"),
        ("text_cfg", {"wdith": 32}, r"open_clip knows no model_cfg.text_cfg.wdith"),
        ("text_cfg", {"layers": 2}, r"resblocks.1.\S+ is missing"),
        ("text_cfg", {"layers": 10**9}, "text_cfg.layers: 1000000000 layers of"),
        ("text_cfg", {"width": 2**20}, "has the shape"),  # terabytes, of which none are taken
        ("vision_cfg", {"layers": 1}, "is not a tensor of this architecture"),
        ("vision_cfg", {"image_size": [32, 40]}, "has the shape"),
        ("vision_cfg", {"image_size": 64}, "positional_embedding has the shape"),
        ("preprocess_cfg", {"resize_mode": "longest", "fill_color": 9}, "fill_color: only 0"),
        ("preprocess_cfg", {"interpolation": "nearest"}, "interpolation: 'nearest'"),
        ("preprocess_cfg", {"resize_mode": ["squash"]}, r"resize_mode: \['squash'\] is not known"),
        ("preprocess_cfg", {"mean": [0.5, 0.5]}, "preprocess_cfg.mean: must be one or three"),
        ("preprocess_cfg", {"std": "x"}, "preprocess_cfg.std: must be one or three numbers"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_configuration_that_does_not_fit_is_refused_in_one_line(
    open_clip_folder: Folders, tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    folder = with_config(open_clip_folder("vit"), tmp_path / "other", section, **values)
    with pytest.raises(ModelImportError, match=message) as refusal:
        load(folder)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    config = {"embed_dim": 24, "vision_cfg": VIT | {"image_size": [32, 40]}, "text_cfg": TEXT}
    with pytest.raises(ModelImportError, match="32 x 40 pixels are not square"):
        load(write_open_clip(tmp_path / "wide", config))


def test_a_tokenizer_beside_the_weights_is_run(tmp_path: Path) -> None:
    """Another library's tokenizer, with open_clip's cleaning, in a folder of its own files."""
    model = load(write_unigram_model(tmp_path / "unigram", ids=300, vocab_size=320))
    assert model.tokenization.kind == "unigram"
    assert model.tokenization.cleaning == "canonicalize"
    assert model.tokenization.pad_id == 1
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(tmp_path / "tokenizer.json", CONTEXT, model.tokenization)
    compared = check_tokens(model, tokenizer)
    assert len(CORPUS) - 10 < compared < len(CORPUS)  # cleaning leaves nothing of `...`


@pytest.mark.parametrize("name", sorted(CLEANINGS))
def test_texts_are_cleaned_as_open_clip_does_it(name: str) -> None:
    clean = getattr(open_clip().tokenizer, name)
    for text in map(without_ignorable, CORPUS):
        try:
            cleaned = clean_text(text, CLEANINGS[name])
        except TextError:
            cleaned = ""
        assert cleaned == clean(text)


def test_a_tokenizer_with_more_ids_than_the_text_tower_is_refused(tmp_path: Path) -> None:
    model = load(write_unigram_model(tmp_path / "unigram", ids=300, vocab_size=250))
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(tmp_path / "tokenizer.json", CONTEXT, model.tokenization)
    with pytest.raises(ModelImportError, match="has 300 ids, the text tower 250"):
        check_tokens(model, tokenizer)


def test_a_text_tower_of_transformers_is_built_without_the_hub(tmp_path: Path) -> None:
    """Its configuration and tokenizer lie in the folder; the name in text_cfg is not asked for."""
    from transformers import RobertaConfig

    folder = tmp_path / "roberta"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    positions = {"max_position_embeddings": CONTEXT + 4, "pad_token_id": 1}
    RobertaConfig(vocab_size=320, num_attention_heads=2, **sizes, **positions).save_pretrained(
        folder
    )
    text = {"hf_tokenizer_name": "org/name", "hf_pooler_type": "mean_pooler"}
    text |= {"hf_model_name": str(folder), "context_length": CONTEXT}
    write_open_clip(folder, {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text})
    write_unigram(folder, 300)
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"]["text_cfg"]["hf_model_name"] = "org/name"
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    model = load(folder)
    assert (model.vocabulary, model.tokenization.cleaning) == (320, "whitespace")
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(tmp_path / "tokenizer.json", CONTEXT, model.tokenization)
    check_tokens(model, tokenizer)
    given = golden(model, tokenizer)
    export = tmp_path / "text.onnx"
    example = torch.zeros(2, CONTEXT, dtype=torch.int64)
    write_onnx(model.text, example, INPUT["text"], DENSE_OUTPUTS["text"], export, half=False)
    assert check_graph(export, "text", given, half=False).parity.min_cosine > 0.9999


def write_unigram_model(folder: Path, *, ids: int, vocab_size: int) -> Path:
    text = TEXT | {"vocab_size": vocab_size, "hf_tokenizer_name": "org/name"}
    text |= {"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True}
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text | {"pool_type": "last"}}
    write_open_clip(folder, config)
    write_unigram(folder, ids)
    return folder
