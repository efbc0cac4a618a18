"""Directories of Hugging Face as people have them: other files, and other settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bundle.open_tokenizer import open_tokenizer
from tests.training.importing.hf_edits import INDEX, change, drop, load, processor, tensors
from tests.training.importing.varied_texts import LINES
from training.importing._golden_inputs import golden_images
from training.importing.base import ImportedModel


def same(
    hf_folders: Path, folder: Path, family: str, texts: tuple[str, ...] = LINES
) -> ImportedModel:
    """Loads a changed directory. Its model must give the vectors of the whole one."""
    model, original = load(folder), load(hf_folders / family)
    pixels = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    tokens = original.reference.tokens(texts)
    assert np.array_equal(model.reference.tokens(texts), tokens)
    for name, inputs in (("image", pixels), ("text", tokens)):
        with torch.no_grad():
            a, b = (getattr(m, name)(torch.from_numpy(inputs)) for m in (model, original))
        assert torch.cosine_similarity(a, b).min() > 0.999, name
    return model


def test_weights_in_half_precision_and_in_shards_are_read(hf_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(hf_folders / "clip", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, kept in shards.items():
        dtype = torch.bfloat16 if shard == "a.safetensors" else torch.float16
        part = {name: weights[name].to(dtype) for name in kept}
        save_file(part, tmp_path / "model" / shard, metadata={"format": "pt"})
    index = {name: shard for shard, kept in shards.items() for name in kept}
    change(INDEX, weight_map=index, metadata={})(tmp_path / "model")
    model = same(hf_folders, tmp_path / "model", "clip")
    assert {parameter.dtype for parameter in model.text.parameters()} == {torch.float32}
    assert len(model.weights_sha256) == 64


def test_a_bias_that_is_left_out_is_zero(hf_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(hf_folders / "siglip", tmp_path / "model")
    tensors(lambda weights: weights.pop("logit_bias"))(tmp_path / "model")
    assert load(tmp_path / "model").logit_bias == 0.0
    assert load(hf_folders / "siglip").logit_bias == -4.0


def test_a_processor_of_older_versions_is_read(hf_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(hf_folders / "clip", tmp_path / "model")
    drop("processor_config.json")(tmp_path / "model")
    older = {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "size": 32,
        "crop_size": 32,
        "resample": 3,
        "do_resize": True,
        "do_center_crop": True,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
    }
    change("preprocessor_config.json", **older)(tmp_path / "model")
    preprocessing = same(hf_folders, tmp_path / "model", "clip").preprocessing
    assert (preprocessing.resize, preprocessing.crop) == ("shortest_crop", "floor")
    assert preprocessing.mean == (0.5, 0.4, 0.3)


def test_a_processor_that_converts_no_grey_images_is_read(hf_folders: Path, tmp_path: Path) -> None:
    """As that of SigLIP 2, which has null there."""
    shutil.copytree(hf_folders / "siglip", tmp_path / "model")
    processor(do_convert_rgb=None)(tmp_path / "model")
    pixels = load(tmp_path / "model").reference.pixels(golden_images()[-1:])
    assert pixels.shape == (1, 3, 32, 32)


def test_clips_own_vocabulary_files_are_read(hf_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(hf_folders / "clip", tmp_path / "model")
    data = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["model"]
    drop("tokenizer.json")(tmp_path / "model")
    change("vocab.json", **data["vocab"])(tmp_path / "model")
    merges = "\n".join(["#version: 0.2", *map(" ".join, data["merges"])])
    (tmp_path / "model" / "merges.txt").write_text(merges)
    same(hf_folders, tmp_path / "model", "clip")


def test_an_older_configuration_of_clip_reads_the_highest_id(
    hf_folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(hf_folders / "clip", tmp_path / "model")
    change("config.json", text_config__eos_token_id=2)(tmp_path / "model")
    same(hf_folders, tmp_path / "model", "clip")


MASKED = {
    "siglip": ("siglip", {"model_input_names": ["input_ids", "attention_mask"]}),
    "siglip2, padded before": (
        "siglip2",
        {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left"},
    ),
    "siglip2 without a mask, padded before": ("siglip2", {"padding_side": "left"}),
    "metaclip_2, padded before": ("metaclip_2", {"padding_side": "left"}),
}


@pytest.mark.parametrize("case", MASKED)
def test_padding_is_where_and_as_visible_as_the_tokenizer_says(
    hf_folders: Path, tmp_path: Path, case: str
) -> None:
    family, settings = MASKED[case]
    shutil.copytree(hf_folders / family, tmp_path / "model")
    change("tokenizer_config.json", **settings)(tmp_path / "model")
    model = load(tmp_path / "model")
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(
        tmp_path / "tokenizer.json", model.context_length, model.tokenization
    )
    expected = model.reference.tokens(LINES)
    assert np.array_equal(tokenizer.encode(LINES), expected)
    with torch.no_grad():
        actual = model.text(torch.from_numpy(expected)).numpy()
        unmasked = load(hf_folders / family).text(torch.from_numpy(expected)).numpy()
    assert np.allclose(actual, model.reference.texts(expected), atol=1e-5)
    masked = "attention_mask" in settings.get("model_input_names", []) or family == "metaclip_2"
    assert np.allclose(actual, unmasked, atol=1e-4) != masked
