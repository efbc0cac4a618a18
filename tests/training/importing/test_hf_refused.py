"""Directories of Hugging Face that are refused: damage, other models, and settings that no bundle
has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.importing.hf_edits import (
    INDEX,
    Edit,
    change,
    drop,
    load,
    processor,
    rename,
    replace,
    steps,
    tensors,
    tokenizer_of,
)
from training.huggingface.model_error import ModelImportError

NAN = torch.tensor(float("nan"))
TEXT_BIAS = "text_model.final_layer_norm.bias"

REFUSED: dict[str, tuple[str, Edit, str]] = {
    "no configuration": ("clip", drop("config.json"), "SOURCE: hf: no config.json"),
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
    "weights that are cut off": (
        "clip",
        lambda folder: os.truncate(folder / "model.safetensors", 40_000),
        "weights: not a file of safetensors",
    ),
    "weights of 8 bits": (
        "clip",
        tensors(lambda w: w.update({TEXT_BIAS: torch.zeros(32, dtype=torch.int8)})),
        f"weights: {TEXT_BIAS} is quantised (I8), and not read",
    ),
    "a quantised model": (
        "clip",
        change("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "config.json: quantization_config: not read",
    ),
    "layers without end": (
        "clip",
        change("config.json", text_config__num_hidden_layers=10**9),
        "config.json: text_config.num_hidden_layers: 1000000000 layers of 46 tensors",
    ),
    "patches without pixels": (
        "clip",
        change("config.json", vision_config__patch_size=0),
        "config.json: vision_config.patch_size: must be 1 or more",
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
    "a scale that is a text": (
        "clip",
        processor(rescale_factor="1/255"),
        "preprocessor_config.json: rescale_factor: 1/255 is not supported",
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
    "patches without end": (
        "siglip2",
        processor(max_num_patches=10**9),
        "preprocessor_config.json: max_num_patches, patch_size: do not fit",
    ),
    "patches that are no number": (
        "siglip2",
        processor(max_num_patches="16"),
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
    "texts of no length": (
        "clip",
        change("tokenizer_config.json", model_max_length=-1),
        "tokenizer_config.json: model_max_length: must be 1 or more",
    ),
    "texts of a length that is no number": (
        "clip",
        change("tokenizer_config.json", model_max_length="16"),
        "tokenizer_config.json: model_max_length: must be 1 or more",
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
    hf_folders: Path, tmp_path: Path, case: str
) -> None:
    family, edit, message = REFUSED[case]
    shutil.copytree(hf_folders, tmp_path / "all")
    edit(tmp_path / "all" / family)
    with pytest.raises(ModelImportError) as caught:
        load(tmp_path / "all" / family)
    text = str(caught.value)
    assert text.startswith(message)
    assert "\n" not in text
    assert str(tmp_path) not in text
    assert len(text) < 200


def test_files_that_the_user_may_not_read_are_named(
    hf_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is asked, because the user of a test may be one who may read all."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "model.safetensors")
    with pytest.raises(ModelImportError, match="^weights: you may not read model.safetensors$"):
        load(hf_folders / "clip")
