"""Directories of Hugging Face as people have them: other files, other settings, and damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.hf_models import TINY, write_hf_model
from bundle.open_tokenizer import open_tokenizer
from tests.training.importing.varied_texts import LINES
from training.importing.base import ImportedModel, ModelImportError, SourceOptions
from training.importing.hf_source import HFSource

Edit = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    for family in ("clip", "siglip", "siglip2", "metaclip_2"):
        write_hf_model(family, folder / family, TINY)
    return folder


def load(path: Path) -> ImportedModel:
    return HFSource().load(str(path), SourceOptions())


def change(name: str, **fields: Any) -> Edit:
    """Sets fields of a JSON file; `a__b` is the field b of the object a."""

    def edit(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text()) if path.exists() else {}
        for field, value in fields.items():
            *outer, last = field.split("__")
            target = data
            for key in outer:
                target = target[key]
            target[last] = value
        path.write_text(json.dumps(data))

    return edit


def drop(*names: str) -> Edit:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def replace(name: str, content: bytes) -> Edit:
    return lambda folder: bool((folder / name).write_bytes(content)) and None


def tensors(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Edit:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        edit(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def processor(**fields: Any) -> Edit:
    inner = {f"image_processor__{name}": value for name, value in fields.items()}
    return change("processor_config.json", **inner)


def rename(name: str, other: str) -> Edit:
    return lambda folder: (folder / name).rename(folder / other) and None


def steps(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for step in edits:
            step(folder)

    return edit


def tokenizer_of(family: str) -> Edit:
    def edit(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder.parent / family / name, folder / name)

    return edit


INDEX = "model.safetensors.index.json"
NAN = torch.tensor(float("nan"))
TEXT_BIAS = "text_model.final_layer_norm.bias"

REFUSED: dict[str, tuple[str, Edit, str]] = {
    "no configuration": ("clip", drop("config.json"), "no config.json"),
    "a broken configuration": ("clip", replace("config.json", b"{"), "config.json: not JSON"),
    "a list": ("clip", replace("config.json", b"[]"), "config.json: not an object"),
    "another family": (
        "clip",
        change("config.json", model_type="align"),
        "config.json: model_type: 'align' is none of clip, metaclip_2, siglip, siglip2",
    ),
    "code of its own": (
        "clip",
        change("config.json", auto_map={"AutoModel": "m.M"}),
        "config.json: auto_map: needs code of its own, which is not run",
    ),
    "a tokenizer's code": (
        "clip",
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}),
        "tokenizer_config.json: auto_map: needs code of its own, which is not run",
    ),
    "no weights": ("clip", drop("model.safetensors"), "no model.safetensors"),
    "pickles alone": (
        "clip",
        rename("model.safetensors", "pytorch_model.bin"),
        "weights: only pickles",
    ),
    "weights that are none": (
        "clip",
        replace("model.safetensors", b"x" * 40),
        "weights: not a file of safetensors",
    ),
    "an index that leads away": (
        "clip",
        steps(drop("model.safetensors"), change(INDEX, weight_map={"a": "../a.safetensors"})),
        f"{INDEX}: names a file that is no safetensors beside it",
    ),
    "a shard that is gone": (
        "clip",
        steps(drop("model.safetensors"), change(INDEX, weight_map={"a": "a.safetensors"})),
        "weights: a.safetensors is missing",
    ),
    "a missing tensor": (
        "clip",
        tensors(lambda w: w.pop(TEXT_BIAS)),
        f"weights: {TEXT_BIAS} is missing",
    ),
    "a further tensor": (
        "clip",
        tensors(lambda w: w.update(other=NAN)),
        "weights: other is not a tensor of this architecture",
    ),
    "a misshapen tensor": (
        "clip",
        tensors(lambda w: w.update({TEXT_BIAS: torch.zeros(3)})),
        f"weights: {TEXT_BIAS} has another shape than config.json says",
    ),
    "NaN": (
        "clip",
        tensors(lambda w: w[TEXT_BIAS].fill_(NAN)),
        f"weights: {TEXT_BIAS} holds numbers that are not finite",
    ),
    "a far larger model": (
        "clip",
        change("config.json", text_config__intermediate_size=2**30),
        "weights: hold",
    ),
    "numbers that do not fit": (
        "clip",
        change("config.json", text_config__num_attention_heads=7),
        "config.json: transformers refuses it",
    ),
    "images that are not square": (
        "clip",
        change("config.json", vision_config__image_size=[32, 48]),
        "config.json: vision_config.image_size: only squares are supported",
    ),
    "four channels": (
        "clip",
        change("config.json", vision_config__num_channels=4),
        "config.json: vision_config.num_channels: must be 3",
    ),
    "no processor": ("clip", drop("processor_config.json"), "no preprocessor_config.json"),
    "another processor": (
        "clip",
        processor(image_processor_type="BlipImageProcessor"),
        "preprocessor_config.json: image_processor_type: BlipImageProcessor is not supported",
    ),
    "lanczos": (
        "clip",
        processor(resample=1),
        "preprocessor_config.json: resample: lanczos is not supported",
    ),
    "pixels up to 255": (
        "clip",
        processor(rescale_factor=1),
        "preprocessor_config.json: rescale_factor: 1 is not supported",
    ),
    "pixels that are not scaled": (
        "siglip",
        processor(do_rescale=False),
        "preprocessor_config.json: do_rescale: False is not supported",
    ),
    "a larger image than the crop": (
        "clip",
        processor(size={"shortest_edge": 40}),
        "preprocessor_config.json: size: {'shortest_edge': 40} is not supported: the tower",
    ),
    "an image for another tower": (
        "siglip",
        processor(size={"height": 48, "width": 48}),
        "preprocessor_config.json: size: {'height': 48, 'width': 48} is not supported",
    ),
    "patches of another size": (
        "siglip2",
        processor(patch_size=16),
        "preprocessor_config.json: max_num_patches, patch_size: do not fit",
    ),
    "no tokenizer": ("clip", drop("tokenizer.json"), "no tokenizer.json"),
    "a tokenizer that is none": (
        "clip",
        replace("tokenizer.json", b"{}"),
        "tokenizer: transformers cannot read it",
    ),
    "SentencePiece that is none": (
        "siglip",
        replace("spiece.model", b"\xff\xff"),
        "tokenizer: transformers cannot read it",
    ),
    "a tokenizer of another model": (
        "clip",
        tokenizer_of("siglip2"),
        "tokenizer: ends texts with the id 1, the text tower reads 1099",
    ),
    "a tokenizer with more ids": (
        "siglip2",
        change("config.json", text_config__vocab_size=900),
        "weights: text_model.embeddings.token_embedding.weight has another shape",
    ),
    "texts cut at their start": (
        "clip",
        change("tokenizer_config.json", truncation_side="left"),
        "tokenizer: truncation_side: must be right",
    ),
    "texts in their own case": (
        "siglip",
        change("tokenizer_config.json", do_lower_case=False),
        "tokenizer: do_lower_case: must be true",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_as_it_is_is_refused_in_one_line(
    whole: Path, tmp_path: Path, case: str
) -> None:
    family, edit, message = REFUSED[case]
    shutil.copytree(whole, tmp_path / "all")
    edit(tmp_path / "all" / family)
    with pytest.raises(ModelImportError) as caught:
        load(tmp_path / "all" / family)
    text = str(caught.value)
    assert text.startswith(message)
    assert "\n" not in text
    assert str(tmp_path) not in text
    assert len(text) < 200


def same(whole: Path, folder: Path, family: str, texts: tuple[str, ...] = LINES) -> ImportedModel:
    """Loads a changed directory. Its model must give the vectors of the whole one."""
    model, original = load(folder), load(whole / family)
    pixels = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    tokens = original.reference.tokens(texts)
    assert np.array_equal(model.reference.tokens(texts), tokens)
    for name, inputs in (("image", pixels), ("text", tokens)):
        with torch.no_grad():
            a, b = (getattr(m, name)(torch.from_numpy(inputs)) for m in (model, original))
        assert torch.cosine_similarity(a, b).min() > 0.999, name
    return model


def test_weights_in_half_precision_and_in_shards_are_read(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "clip", tmp_path / "model")
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
    model = same(whole, tmp_path / "model", "clip")
    assert {parameter.dtype for parameter in model.text.parameters()} == {torch.float32}
    assert len(model.weights_sha256) == 64


def test_a_bias_that_is_left_out_is_zero(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "siglip", tmp_path / "model")
    tensors(lambda weights: weights.pop("logit_bias"))(tmp_path / "model")
    assert load(tmp_path / "model").logit_bias == 0.0
    assert load(whole / "siglip").logit_bias == -4.0


def test_a_processor_of_older_versions_is_read(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "clip", tmp_path / "model")
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
    preprocessing = same(whole, tmp_path / "model", "clip").preprocessing
    assert (preprocessing.resize, preprocessing.crop) == ("shortest_crop", "floor")
    assert preprocessing.mean == (0.5, 0.4, 0.3)


def test_clips_own_vocabulary_files_are_read(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "clip", tmp_path / "model")
    data = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["model"]
    drop("tokenizer.json")(tmp_path / "model")
    change("vocab.json", **data["vocab"])(tmp_path / "model")
    merges = "\n".join(["#version: 0.2", *map(" ".join, data["merges"])])
    (tmp_path / "model" / "merges.txt").write_text(merges)
    same(whole, tmp_path / "model", "clip")


def test_an_older_configuration_of_clip_reads_the_highest_id(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "clip", tmp_path / "model")
    change("config.json", text_config__eos_token_id=2)(tmp_path / "model")
    same(whole, tmp_path / "model", "clip")


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
    whole: Path, tmp_path: Path, case: str
) -> None:
    family, settings = MASKED[case]
    shutil.copytree(whole / family, tmp_path / "model")
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
        unmasked = load(whole / family).text(torch.from_numpy(expected)).numpy()
    assert np.allclose(actual, model.reference.texts(expected), atol=1e-5)
    masked = "attention_mask" in settings.get("model_input_names", []) or family == "metaclip_2"
    assert np.allclose(actual, unmasked, atol=1e-4) != masked
