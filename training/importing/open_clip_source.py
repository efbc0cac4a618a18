"""Models of open_clip: its architectures and tags, repositories of the hub, and folders."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle.manifest import Preprocessing
from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import check_layers, weights_digest
from training.importing._open_clip_files import CONFIG, LOCAL, OpenClipFiles, find_files
from training.importing._open_clip_reference import OpenClipReference
from training.importing._weight_files import check_fitting, load_fitting, read_weights
from training.importing.base import ImportedModel, ModelSource, SourceOptions


class OpenClipSource(ModelSource):
    """`ARCH/TAG`, `hf-hub:ORG/REPO`, `local-dir:PATH`, or `ARCH` with a file of weights."""

    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """See ModelSource."""
        files = find_files(rest, options)
        from training.importing._hub import hub_answers, refuse_remote_code

        hub_answers()  # else each of open_clip's own requests would be tried for a minute
        refuse_remote_code()
        from training.importing._open_clip_tokenizer import read_tokenizer
        from training.importing._open_clip_towers import (
            ImageEncoder,
            TextEncoder,
            fold_branches,
            patch_encoder,
        )

        weights, config = read_weights(files.weights), _config(files)
        for section, values in config.items():
            check_layers(f"{CONFIG}: model_cfg.{section}", values, len(weights))
        # First without memory: a configuration may describe a far larger model than its file holds.
        outline = _build(files, config, "meta")
        check_fitting(outline, _named(outline, weights))
        model = _build(files, config, "cpu")
        load_fitting(model, _named(model, weights))
        tokenizer = read_tokenizer(files.model_name, config["text_cfg"])
        preprocessing = _preprocessing(model.visual.preprocess_cfg)
        _try_image(model, preprocessing.size)
        folded = fold_branches(model)
        patches = patch_encoder(folded.visual)
        bias = getattr(model, "logit_bias", None)
        return ImportedModel(
            family=f"open_clip:{_name(files.model_name, config)}",
            library=f"open_clip {_library().__version__}",
            image=ImageEncoder(folded).eval(),
            text=TextEncoder(model).eval(),
            patches=None if patches is None else patches.eval(),
            patch_grid=None if patches is None else patches.grid,
            preprocessing=preprocessing,
            tokenization=tokenizer.tokenization,
            write_tokenizer=tokenizer.write,
            context_length=tokenizer.context_length,
            vocabulary=_vocabulary(model),
            score="softmax" if bias is None else "sigmoid",
            logit_scale=float(model.logit_scale.exp()),
            logit_bias=0.0 if bias is None else float(bias),
            weights_sha256=weights_digest([files.weights]),
            reference=_reference(model, tokenizer.source),
        )

    def label(self, rest: str) -> str:
        """See ModelSource."""
        path = rest.removeprefix(LOCAL)
        return rest if path == rest else f"{LOCAL}{Path(path).resolve().name}"


def _reference(model: Any, tokenizer: Any) -> OpenClipReference:
    """open_clip's own transform, tokenizer and model."""
    cfg = _library().transform.PreprocessCfg(**model.visual.preprocess_cfg)
    return OpenClipReference(cfg, tokenizer, model.encode_image, model.encode_text)


def _library() -> Any:
    from training.core.torchvision_compat import open_clip

    return open_clip()


def _config(files: OpenClipFiles) -> dict[str, Any]:
    """The model's configuration, as open_clip reads it."""
    config: dict[str, Any] = _library().get_model_config(files.model_name)
    _check_config(config)
    return config


def _build(files: OpenClipFiles, config: dict[str, Any], device: str) -> Any:
    """The model with random weights; on the device `meta` without any."""
    import torch

    changed = {}
    text = config["text_cfg"]
    if text.get("hf_model_name") and files.model_name.startswith(LOCAL):
        folder = files.model_name.removeprefix(LOCAL)
        if (Path(folder) / "config.json").is_file():
            # The text tower's own configuration lies in the folder, so that no hub is asked for it.
            changed["text_cfg"] = text | {"hf_model_name": folder, "hf_model_pretrained": False}
    try:
        with _quiet(), torch.device(device):
            model = _library().create_model(
                files.model_name,
                device=device,
                load_weights=False,
                pretrained_text=False,
                force_preprocess_cfg=dict(files.preprocessing),
                **changed,
            )
    except Exception as error:
        from_hub = text.get("hf_model_name") and not changed
        needs = f": its text tower is {text['hf_model_name']}, of the hub" if from_hub else ""
        raise ModelImportError(f"open_clip: cannot build this configuration{needs}") from error
    return model.float().eval().requires_grad_(False)


def _check_config(config: dict[str, Any]) -> None:
    """Refuses keys that open_clip does not know, by their names."""
    import dataclasses

    clip = _library()
    for section, owner in (("vision_cfg", clip.CLIPVisionCfg), ("text_cfg", clip.CLIPTextCfg)):
        values = config.get(section)
        if not isinstance(values, dict):
            raise ModelImportError(f"{CONFIG}: model_cfg.{section} is missing")
        known = {entry.name for entry in dataclasses.fields(owner)}
        for key in values:
            if key not in known:
                raise ModelImportError(f"{CONFIG}: open_clip knows no model_cfg.{section}.{key}")


def _named(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Weights by the names that the model has for them, as open_clip converts them; never resized,
    and none of them made up."""
    import torch

    clip = _library()
    weights = clip.convert.convert_state_dict(model, dict(weights))
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = clip.model.convert_to_custom_text_state_dict(weights)
    for name in ("input_resolution", "context_length", "vocab_size"):
        weights.pop(name, None)  # numbers that OpenAI's files hold beside the weights
    expected = model.state_dict()
    if "text.transformer.embeddings.position_ids" not in expected:
        weights.pop("text.transformer.embeddings.position_ids", None)
    for name in ("logit_scale", "logit_bias"):
        value = weights.get(name)
        if isinstance(value, torch.Tensor) and value.numel() == 1 and name in expected:
            weights[name] = value.reshape(expected[name].shape)
    return weights


def _preprocessing(cfg: dict[str, Any]) -> Preprocessing:
    """open_clip's PreprocessCfg in the bundle's words."""
    size, mean, std = cfg["size"], cfg["mean"], cfg["std"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise ModelImportError(f"preprocess_cfg.size: {height} x {width} pixels are not square")
    resize = {"shortest": "shortest_crop", "longest": "longest_pad", "squash": "squash"}
    if str(cfg["resize_mode"]) not in resize:
        raise ModelImportError(f"preprocess_cfg.resize_mode: {cfg['resize_mode']!r} is not known")
    if cfg["interpolation"] not in ("bicubic", "bilinear", "random"):
        raise ModelImportError(f"preprocess_cfg.interpolation: {cfg['interpolation']!r}")
    if cfg["resize_mode"] == "longest" and cfg["fill_color"] != 0:
        raise ModelImportError("preprocess_cfg.fill_color: only 0, which is black")
    return Preprocessing(
        size=height,
        mean=_three("mean", mean),
        std=_three("std", std),
        resize=resize[cfg["resize_mode"]],  # type: ignore[arg-type]
        interpolation="bilinear" if cfg["interpolation"] == "bilinear" else "bicubic",
    )


def _three(name: str, values: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = values if isinstance(values, list | tuple) else (values,) * 3
        return float(red), float(green), float(blue)
    except (TypeError, ValueError):
        raise ModelImportError(f"preprocess_cfg.{name}: must be one or three numbers") from None


def _try_image(model: Any, size: int) -> None:
    import torch

    try:
        with torch.inference_mode():
            model.encode_image(torch.zeros(1, 3, size, size))
    except Exception:
        message = f"preprocess_cfg.size: the image tower takes no images of {size} pixels a side"
        raise ModelImportError(message) from None


def _vocabulary(model: Any) -> int:
    return int(getattr(model, "vocab_size", 0) or model.text.vocab_size)


def _name(model_name: str, config: dict[str, Any]) -> str:
    """The architecture's name; `custom` for a configuration that open_clip does not have."""
    clip = _library()
    known = {name: clip.get_model_config(name) for name in clip.list_models()}
    if model_name in known:
        return model_name
    return next((name for name, entry in known.items() if entry == config), "custom")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of weights that are random. Here they are, until the file's are loaded."""
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
