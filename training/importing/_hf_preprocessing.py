"""A processor of Hugging Face as the preprocessing of a bundle. S image side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from bundle.manifest import Preprocessing, Resize
from training.huggingface.model_error import ModelImportError

_KNOWN = (
    "CLIPImageProcessor",
    "SiglipImageProcessor",
    "Siglip2ImageProcessor",
    "ViTImageProcessor",
)
"""Processors that resize, crop, scale and normalise in this order, and do nothing else."""

_INTERPOLATIONS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters."""

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def preprocessing_of(processor: Any, size: int) -> Preprocessing:
    """The preprocessing that gives the same pixels, for a tower that reads S = `size`.

    Raises ModelImportError, naming the field, for what a bundle cannot say.
    """
    name = type(processor).__name__.removesuffix("Fast").removesuffix("Pil")
    if name not in _KNOWN:
        raise _refused("image_processor_type", name)
    naflex = name == "Siglip2ImageProcessor"
    for field in ("do_rescale", "do_normalize", *(() if naflex else ("do_resize",))):
        if not getattr(processor, field, True):
            raise _refused(field, False)
    if getattr(processor, "do_pad", None):
        raise _refused("do_pad", True)
    factor = getattr(processor, "rescale_factor", None) or 1 / 255
    if not isinstance(factor, int | float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise _refused("rescale_factor", factor)
    resample = getattr(processor, "resample", None)
    code = int(getattr(resample, "value", resample) if resample is not None else -1)
    if code not in _INTERPOLATIONS:
        raise _refused("resample", _FILTERS.get(code, code))
    resize: Resize = "squash" if naflex else _resize(processor, size)
    return Preprocessing(
        size=size,
        mean=_channels(processor, "image_mean"),
        std=_channels(processor, "image_std"),
        resize=resize,
        interpolation=_INTERPOLATIONS[code],
        crop="floor" if resize == "shortest_crop" else None,
    )


def _resize(processor: Any, size: int) -> Resize:
    wanted = _sides(processor, "size")
    square = {"height": size, "width": size}
    if getattr(processor, "do_center_crop", None):
        crop = _sides(processor, "crop_size")
        if crop != square:
            raise _refused("crop_size", crop, f"the tower reads {size}")
        if wanted == {"shortest_edge": size}:
            return "shortest_crop"
    if wanted == square:
        return "squash"
    raise _refused("size", wanted, f"the tower reads {size}")


def _sides(processor: Any, field: str) -> dict[str, int]:
    value = getattr(processor, field, None)
    if isinstance(value, int):
        return {"height": value, "width": value}
    entries = value if isinstance(value, Mapping) else vars(value) if value is not None else {}
    return {key: int(side) for key, side in entries.items() if side is not None}


def _channels(processor: Any, field: str) -> tuple[float, float, float]:
    value = getattr(processor, field, None)
    channels = [value] * 3 if isinstance(value, int | float) else list(value or ())
    if len(channels) != 3:
        raise _refused(field, value)
    red, green, blue = map(float, channels)
    return red, green, blue


def _refused(field: str, value: object, reason: str = "") -> ModelImportError:
    return ModelImportError(
        f"preprocessor_config.json: {field}: {value} is not supported"
        + (f": {reason}" if reason else "")
    )
