"""Models of Hugging Face's transformers, from a directory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from bundle.architecture import Score
from training.core.torchvision_compat import transformers
from training.importing._hf_directory import HFDirectory
from training.importing._hf_preprocessing import preprocessing_of
from training.importing._hf_reference import HFReference, NaFlexReference
from training.importing._hf_tokenizer import HFTokenizer
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
from training.importing._weight_files import weights_digest
from training.importing.base import (
    ImportedModel,
    ModelImportError,
    ModelSource,
    SourceOptions,
)

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
    side = int(int(getattr(processor, "max_num_patches", 0)) ** 0.5)
    patch = model.config.vision_config.patch_size
    if not side or getattr(processor, "patch_size", None) != patch:
        raise ModelImportError("preprocessor_config.json: max_num_patches, patch_size: do not fit")
    tower = SquareNaFlex(model, side)
    return ImageTowers(NaFlexImageTower(tower), NaFlexPatches(tower), side)


def _grid(model: Any) -> int:
    vision = model.config.vision_config
    return int(vision.image_size // vision.patch_size)


HF_FAMILIES = {
    "clip": HFFamily(model="CLIPModel", towers=_class_token, score="softmax", reads_end=True),
    "metaclip_2": HFFamily(
        model="MetaClip2Model", towers=_class_token, score="softmax", reads_end=True
    ),
    "siglip": HFFamily(model="SiglipModel", towers=_attention_pool, score="sigmoid"),
    "siglip2": HFFamily(model="Siglip2Model", towers=_naflex, score="sigmoid"),
}
"""By config.json's model_type."""


class HFSource(ModelSource):
    """`PATH`, a directory with config.json, safetensors, a processor and a tokenizer.

    Nothing is fetched, and no code of a directory is run.
    """

    def label(self, rest: str) -> str:
        """See ModelSource."""
        return Path(rest).resolve().name

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        if options.weights is not None:
            raise ModelImportError("--weights: a directory of Hugging Face has its own")
        directory = HFDirectory.open(Path(rest))
        kind = directory.config.get("model_type")
        family = HF_FAMILIES.get(kind) if isinstance(kind, str) else None
        if family is None:
            raise ModelImportError(
                f"config.json: model_type: {kind!r} is none of {', '.join(HF_FAMILIES)}"
            )
        _check_shape(directory)
        with _quiet():
            return self._load(directory, str(kind), family)

    def _load(self, directory: HFDirectory, kind: str, family: HFFamily) -> ImportedModel:
        library = transformers()
        processor = _read("preprocessor_config.json", library.AutoImageProcessor, directory)
        tokenizer = _read("tokenizer", library.AutoTokenizer, directory)
        model = _load_model(getattr(library, family.model), directory)
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
        if not isinstance(vision.get(name, 1), int):
            raise ModelImportError(f"config.json: vision_config.{name}: only squares are supported")
    if vision.get("num_channels", 3) != 3:
        raise ModelImportError("config.json: vision_config.num_channels: must be 3")


def _read(what: str, loader: Any, directory: HFDirectory) -> Any:
    """What a class of the library reads from the directory; its errors in one line."""
    try:
        return loader.from_pretrained(str(directory.path), local_files_only=True)
    except Exception as error:  # damaged files raise anything
        raise ModelImportError(f"{what}: transformers cannot read it ({_kind(error)})") from None


def _load_model(cls: Any, directory: HFDirectory) -> Any:
    """The library's model in float32, with exactly the weights of the files."""
    _check_size(cls, directory)
    try:
        model, report = cls.from_pretrained(
            str(directory.path),
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # damaged files raise anything
        raise ModelImportError(f"weights: transformers cannot read them ({_kind(error)})") from None
    missing = set(report["missing_keys"]) - {"logit_bias"}
    unknown = {name for name in report["unexpected_keys"] if not name.endswith("position_ids")}
    for names, problem in (
        (missing, "is missing"),
        (
            {entry[0] for entry in report["mismatched_keys"]},
            "has another shape than config.json says",
        ),
        (unknown, "is not a tensor of this architecture"),
    ):
        if names:
            raise ModelImportError(f"weights: {min(names)} {problem}")
    if "logit_bias" in report["missing_keys"]:
        model.logit_bias.data.zero_()
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelImportError(f"weights: {name} holds numbers that are not finite")
    return model.eval().requires_grad_(False)


def _check_size(cls: Any, directory: HFDirectory) -> None:
    """Raises ModelImportError for a configuration of a model that is larger than its files, before
    memory is taken for it."""
    stored = 0
    try:
        for path in directory.weights:
            with safe_open(path, framework="pt") as file:
                slices = (file.get_slice(name) for name in file.keys())  # noqa: SIM118
                stored += sum(math.prod(entry.get_shape()) for entry in slices)
    except (SafetensorError, OSError):
        raise ModelImportError("weights: not a file of safetensors") from None
    try:
        config = cls.config_class.from_pretrained(str(directory.path), local_files_only=True)
        with torch.device("meta"):
            model = cls(config)
    except Exception as error:  # a constructor raises anything for numbers that do not fit
        raise ModelImportError(f"config.json: transformers refuses it ({_kind(error)})") from None
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > stored + 1:  # a bias of the score may be left out
        raise ModelImportError(
            f"weights: hold {stored:,} numbers, config.json describes {described:,}"
        )


def _context_length(kind: str, tokenizer: Any, positions: int) -> int:
    """T, the length to which the library's processor pads: that of the tokenizer, as far as the
    tower has positions."""
    lengths = [positions, *([NAFLEX_TOKENS] if kind == "siglip2" else [])]
    return int(min(*lengths, int(tokenizer.model_max_length)))


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library, which draws bars and reports what is checked here."""
    logging = transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _kind(error: Exception) -> str:
    return type(error).__name__
