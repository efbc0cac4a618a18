"""Directories of Hugging Face with random weights, in the format of each family's checkpoints.

`python -m benchmarks.hf_models clip FOLDER` writes one of real geometry. Weights are random, so
only speed, memory and parity mean something.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.hf_tokenizers import gemma_bpe, sentencepiece_model
from training.core.torchvision_compat import transformers
from training.model.tokenizer import open_clip_tokenizer


@dataclass(frozen=True, kw_only=True)
class HFGeometry:
    """The sizes of both towers."""

    image_size: int = 224
    patch: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    text_width: int = 768
    text_heads: int = 12
    text_layers: int | None = None
    """Those of the text tower; None as many as `layers`."""
    context_length: int = 64
    vocabulary: int = 32_000
    dim: int = 512
    """D, where the family has a projection."""
    pieces: int = 3_000
    """Pieces of the vocabulary that are trained."""

    def tower(self, *, text: bool = False) -> dict[str, int]:
        """The fields of config.json that both towers have."""
        width = self.text_width if text else self.width
        layers = self.text_layers if text and self.text_layers else self.layers
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": self.text_heads if text else self.heads,
        }


REAL = {
    "clip": HFGeometry(text_width=512, text_heads=8, context_length=77, vocabulary=49_408),
    "siglip": HFGeometry(patch=16),
    "siglip2_fixed": HFGeometry(patch=16, vocabulary=256_000),
    "siglip2": HFGeometry(image_size=256, patch=16, vocabulary=256_000),
    "metaclip_2": HFGeometry(text_width=512, text_heads=8, context_length=77, vocabulary=250_002),
}
"""ViT-B/32 for both CLIPs, B/16 for the SigLIPs. `siglip2_fixed` is SigLIP 2 at one resolution,
whose model_type is siglip, and `siglip2` its NaFlex model. MetaCLIP 2's own vocabulary is 901,629,
with which its text graph would pass the 2 GiB of an ONNX file."""

TINY = HFGeometry(
    image_size=32,
    patch=8,
    width=32,
    layers=1,
    heads=2,
    text_width=32,
    text_heads=2,
    context_length=16,
    vocabulary=1_100,
    dim=24,
    pieces=1_000,
)
"""For tests."""


def write_hf_model(family: str, folder: Path, geometry: HFGeometry | None = None) -> None:
    """Writes a directory as `save_pretrained` does it: weights, processor, tokenizer.

    `family` is a key of REAL; without `geometry` the model is as large as there.
    """
    geometry = geometry or REAL[family]
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model, processor = _WRITERS[family](geometry, folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 or parameter.numel() == 1:
                continue
            # Biases of 0 and norms of 1 would hide a tower that leaves them out.
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.logit_scale.fill_(2.5)
        if hasattr(model, "logit_bias"):
            model.logit_bias.fill_(-4.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _clip(geometry: HFGeometry, folder: Path) -> tuple[Any, Any]:
    library = transformers()
    source = open_clip_tokenizer(geometry.vocabulary, geometry.context_length)
    merges = sorted(source.bpe_ranks, key=source.bpe_ranks.__getitem__)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(piece, piece): number for piece, number in source.encoder.items()}
    tokenizer = library.CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=geometry.context_length
    )
    text = {"vocab_size": geometry.vocabulary, "eos_token_id": tokenizer.eos_token_id}
    model = library.CLIPModel(library.CLIPConfig(**_two_towers(geometry, text)))
    return model, library.CLIPProcessor(_clip_images(geometry), tokenizer)


def _metaclip_2(geometry: HFGeometry, folder: Path) -> tuple[Any, Any]:
    library = transformers()
    proto = sentencepiece_model(geometry.pieces, geometry.vocabulary)
    specials = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(piece.piece, piece.score) for piece in proto.pieces if piece.type == 1]
    tokenizer = library.XLMRobertaTokenizer(
        vocab=[*specials, *pieces],
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap,
        model_max_length=geometry.context_length,
    )
    text = {"vocab_size": len(tokenizer), "eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
    model = library.MetaClip2Model(library.MetaClip2Config(**_two_towers(geometry, text)))
    return model, library.CLIPProcessor(_clip_images(geometry), tokenizer)


def _siglip(geometry: HFGeometry, folder: Path) -> tuple[Any, Any]:
    library = transformers()
    proto = sentencepiece_model(geometry.pieces, geometry.vocabulary)
    (folder / "spiece.model").write_bytes(proto.SerializeToString())
    tokenizer = library.SiglipTokenizer(
        str(folder / "spiece.model"),
        model_max_length=geometry.context_length,
        model_input_names=["input_ids"],
    )
    model = library.SiglipModel(_siglip_config(library.SiglipConfig, geometry))
    side = {"height": geometry.image_size, "width": geometry.image_size}
    return model, library.SiglipProcessor(library.SiglipImageProcessor(size=side), tokenizer)


def _siglip2_fixed(geometry: HFGeometry, folder: Path) -> tuple[Any, Any]:
    library = transformers()
    tokenizer = _gemma(library.GemmaTokenizer, geometry)
    model = library.SiglipModel(_siglip_config(library.SiglipConfig, geometry))
    side = {"height": geometry.image_size, "width": geometry.image_size}
    images = library.SiglipImageProcessor(
        size=side, resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return model, library.SiglipProcessor(images, tokenizer)


def _siglip2(geometry: HFGeometry, folder: Path) -> tuple[Any, Any]:
    library = transformers()
    tokenizer = _gemma(library.Siglip2Tokenizer, geometry)
    model = library.Siglip2Model(_siglip_config(library.Siglip2Config, geometry))
    images = library.Siglip2ImageProcessor(
        patch_size=geometry.patch, max_num_patches=(geometry.image_size // geometry.patch) ** 2
    )
    return model, library.Siglip2Processor(images, tokenizer)


def _gemma(cls: Any, geometry: HFGeometry) -> Any:
    vocabulary, merges = gemma_bpe(geometry.pieces, geometry.vocabulary)
    return cls(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=geometry.context_length,
        model_input_names=["input_ids"],
    )


_WRITERS: dict[str, Callable[[HFGeometry, Path], tuple[Any, Any]]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2_fixed": _siglip2_fixed,
    "siglip2": _siglip2,
    "metaclip_2": _metaclip_2,
}


def _two_towers(geometry: HFGeometry, text: dict[str, int]) -> dict[str, Any]:
    dim = {"projection_dim": geometry.dim}
    return {
        **dim,
        "text_config": {
            **geometry.tower(text=True),
            **dim,
            **text,
            "max_position_embeddings": geometry.context_length,
        },
        "vision_config": {
            **geometry.tower(),
            **dim,
            "image_size": geometry.image_size,
            "patch_size": geometry.patch,
        },
    }


def _siglip_config(cls: Any, geometry: HFGeometry) -> Any:
    grid = geometry.image_size // geometry.patch
    return cls(
        text_config={
            **geometry.tower(text=True),
            "vocab_size": geometry.vocabulary,
            "max_position_embeddings": geometry.context_length,
            "projection_size": geometry.width,
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        vision_config={
            **geometry.tower(),
            "patch_size": geometry.patch,
            **(
                {"image_size": geometry.image_size}
                if cls.model_type == "siglip"
                else {"num_patches": grid * grid}
            ),
        },
    )


def _clip_images(geometry: HFGeometry) -> Any:
    side = geometry.image_size
    return transformers().CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )


def main() -> None:
    """Writes one model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("family", choices=sorted(REAL))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_hf_model(arguments.family, arguments.folder)


if __name__ == "__main__":
    main()
