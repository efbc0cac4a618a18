"""A model of Hugging Face as an ImportedModel. P patches, S image side, T tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from bundle.architecture import Score
from training.core.torchvision_compat import transformers
from training.huggingface.hf_directory import HFDirectory
from training.huggingface.hf_loading import check_size, load_model, quiet_transformers, read_part
from training.huggingface.hf_tokenizer import HFTokenizer
from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import weights_digest
from training.importing._hf_preprocessing import preprocessing_of
from training.importing._hf_reference import HFReference, NaFlexReference
from training.importing._hf_towers import (
    HFAttentionPoolPatches,
    HFClassTokenPatches,
    HFImageTower,
    HFTextTower,
    NaFlexImageTower,
    NaFlexPatches,
    PaddingMask,
    SquareNaFlex,
)
from training.importing.base import ImportedModel

MAX_SIDE = 2048
"""Pixels of a side; a bundle has no larger images (see bundle.manifest)."""

NAFLEX_TOKENS = 64
"""The rows of SigLIP 2's own processor."""


class ImageTowers(NamedTuple):
    """The image half of a model, as graphs are written of it."""

    image: nn.Module
    patches: nn.Module
    side: int
    """Patches of a side of the square."""


@dataclass(frozen=True, kw_only=True)
class HFFamily:
    """One model_type of config.json."""

    model: str
    """The class in transformers."""
    towers: Callable[[Any, Any], ImageTowers]
    """Of a model and its processor."""
    score: Score
    reads_end: bool = False
    """Whether the text tower reads the end token, in place of the last position."""


def _class_token(model: Any, processor: Any) -> ImageTowers:
    return ImageTowers(HFImageTower(model), HFClassTokenPatches(model), _grid(model))


def _attention_pool(model: Any, processor: Any) -> ImageTowers:
    if not getattr(model.vision_model, "use_head", True):
        raise ModelImportError("config.json: vision_use_head: a tower without a head is no CLIP")
    return ImageTowers(HFImageTower(model), HFAttentionPoolPatches(model), _grid(model))


def _naflex(model: Any, processor: Any) -> ImageTowers:
    most, patch = getattr(processor, "max_num_patches", 0), model.config.vision_config.patch_size
    side = math.isqrt(most) if isinstance(most, int) and most > 0 else 0
    fits = 0 < side * patch <= MAX_SIDE
    if not fits or getattr(processor, "patch_size", None) != patch:
        raise ModelImportError("preprocessor_config.json: max_num_patches, patch_size: do not fit")
    tower = SquareNaFlex(model, side)
    return ImageTowers(NaFlexImageTower(tower), NaFlexPatches(tower), side)


def _grid(model: Any) -> int:
    vision = model.config.vision_config
    return int(vision.image_size // vision.patch_size)


_FAMILIES = {
    "clip": HFFamily(model="CLIPModel", towers=_class_token, score="softmax", reads_end=True),
    "metaclip_2": HFFamily(
        model="MetaClip2Model", towers=_class_token, score="softmax", reads_end=True
    ),
    "siglip": HFFamily(model="SiglipModel", towers=_attention_pool, score="sigmoid"),
    "siglip2": HFFamily(model="Siglip2Model", towers=_naflex, score="sigmoid"),
}
"""By config.json's model_type."""


def import_directory(directory: HFDirectory, kind: str) -> ImportedModel:
    """Reads a model of one of the families. Raises ModelImportError."""
    _check_shape(directory)
    with quiet_transformers():
        return _import(directory, kind, _FAMILIES[kind])


def _import(directory: HFDirectory, kind: str, family: HFFamily) -> ImportedModel:
    library = transformers()
    check_size(getattr(library, family.model), directory)
    # The library has each processor twice. The one of torchvision, which is its default, differs
    # from that of Pillow, with which the models were trained, by up to 2/255 where it enlarges.
    processor = read_part(
        "preprocessor_config.json", library.AutoImageProcessor, directory, backend="pil"
    )
    tokenizer = read_part("tokenizer", library.AutoTokenizer, directory)
    model = load_model(getattr(library, family.model), directory)
    towers = family.towers(model, processor)
    patch = model.config.vision_config.patch_size
    size = model.config.vision_config.image_size if kind != "siglip2" else towers.side * patch
    preprocessing = preprocessing_of(processor, size)
    converted = HFTokenizer.of(tokenizer)
    text = model.config.text_config
    if converted.vocabulary > text.vocab_size:
        raise ModelImportError(
            f"tokenizer: {converted.vocabulary} ids for a text tower of {text.vocab_size}"
        )
    context_length = _context_length(kind, tokenizer, text.max_position_embeddings)
    row = tokenizer("a", padding="max_length", truncation=True, max_length=context_length)
    if family.reads_end:
        _check_end(row["input_ids"], text.eos_token_id, tokenizer.eos_token_id, kind)
    mask = _mask(tokenizer, row) if _is_masked(family, tokenizer, row) else None
    reference = NaFlexReference if kind == "siglip2" else HFReference
    return ImportedModel(
        family=f"hf:{kind}",
        library=f"transformers {library.__version__}",
        image=towers.image.eval(),
        text=HFTextTower(model, mask).eval(),
        patches=towers.patches.eval(),
        patch_grid=(towers.side, towers.side),
        preprocessing=preprocessing,
        tokenization=converted.tokenization,
        write_tokenizer=converted.write,
        context_length=context_length,
        vocabulary=text.vocab_size,
        score=family.score,
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=float(model.logit_bias.detach()) if family.score == "sigmoid" else 0.0,
        weights_sha256=weights_digest(directory.weights),
        licence=directory.licence,
        reference=reference(model, processor, tokenizer, context_length, preprocessing.size),
    )


def _check_shape(directory: HFDirectory) -> None:
    vision = directory.section("vision_config")
    for name in ("image_size", "patch_size"):
        side = vision.get(name, 1)
        if not isinstance(side, int):
            raise ModelImportError(f"config.json: vision_config.{name}: only squares are supported")
        if side < 1:
            raise ModelImportError(f"config.json: vision_config.{name}: must be 1 or more")
    if vision.get("num_channels", 3) != 3:
        raise ModelImportError("config.json: vision_config.num_channels: must be 3")


def _context_length(kind: str, tokenizer: Any, positions: int) -> int:
    """T, the length to which the library's processor pads: that of the tokenizer, as far as the
    tower has positions."""
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest >= 1:  # NaN is no number, either
        raise ModelImportError("tokenizer_config.json: model_max_length: must be 1 or more")
    return int(min(positions, longest, *([NAFLEX_TOKENS] if kind == "siglip2" else [])))


def _check_end(ids: Sequence[int], tower_end: int, end: int, kind: str) -> None:
    """Raises ModelImportError for rows in which the text tower would not find the end."""
    # A configuration of CLIP with the end 2 is an older one: the library then reads the highest id.
    reads_highest = kind == "clip" and tower_end == 2
    if max(ids) != end if reads_highest else tower_end not in ids:
        raise ModelImportError(
            f"tokenizer: ends texts with the id {end}, the text tower reads {tower_end}"
        )


def _is_masked(family: HFFamily, tokenizer: Any, row: Any) -> bool:
    given = "attention_mask" in row
    return given and (tokenizer.padding_side == "left" or not family.reads_end)


def _mask(tokenizer: Any, row: Any) -> PaddingMask:
    text = [n for n, seen in zip(row["input_ids"], row["attention_mask"], strict=True) if seen]
    return PaddingMask(
        pad_id=tokenizer.pad_token_id,
        left=tokenizer.padding_side == "left",
        ends_with_pad=text[-1] == tokenizer.pad_token_id,
    )
