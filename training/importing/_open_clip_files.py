"""The files of a model of open_clip: found, and refused where they are not, before any of its code
is imported."""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.huggingface.hf_directory import read_json
from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import stored_weights
from training.importing._hub import hub_answers, hub_silence, require_hub
from training.importing._weight_files import SUFFIXES
from training.importing.base import SourceOptions, with_home

LOCAL, HUB = "local-dir:", "hf-hub:"
CONFIG = "open_clip_config.json"

PREFERRED = tuple(
    f"{name}{suffix}"
    for name in ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
    for suffix in SUFFIXES
)
"""Names of a folder's weights, the first of them is read."""


@dataclass(frozen=True, kw_only=True)
class OpenClipFiles:
    """What a model is built from."""

    model_name: str
    """By which open_clip finds the configuration and the tokenizer."""
    weights: Path
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """Values of open_clip's PreprocessCfg that belong to the weights."""


def find_files(rest: str, options: SourceOptions) -> OpenClipFiles:
    """The files that the part of SOURCE after `open_clip:` names. Raises ModelImportError."""
    if rest.startswith((LOCAL, HUB)) and options.weights is not None:
        raise ModelImportError("--weights: this SOURCE has weights of its own")
    if rest.startswith(LOCAL):
        return _in_folder(with_home(rest.removeprefix(LOCAL)))
    if rest.startswith(HUB):
        return _on_hub(rest.removeprefix(HUB))
    name, separator, tag = rest.rpartition("/")
    architecture = _architecture(name if separator and options.weights is None else rest)
    if options.weights is None:
        if not tag or not separator:
            raise ModelImportError(f"{architecture}: name a tag, {architecture}/TAG, or --weights")
        return _tagged(architecture, tag)
    if not options.weights.is_file():
        raise ModelImportError("--weights: no such file")
    if options.weights.suffix not in SUFFIXES:
        raise ModelImportError(f"--weights: must be a file of {', '.join(SUFFIXES)}")
    preprocessing = common_preprocessing(architecture)
    return OpenClipFiles(
        model_name=architecture, weights=options.weights, preprocessing=preprocessing
    )


def _architecture(name: str) -> str:
    """The name of a configuration that open_clip has; it writes ViT-B-32 for ViT-B/32."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named open_clip", name="open_clip")
    known = [path.stem for path in Path(spec.origin).parent.glob("model_configs/*.json")]
    cleaned = name.replace("/", "-")
    if cleaned not in known:
        close = difflib.get_close_matches(cleaned, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ModelImportError(f"open_clip: has no architecture {cleaned!r}{hint}")
    return cleaned


def _in_folder(folder: Path) -> OpenClipFiles:
    if not (folder / CONFIG).is_file():
        raise ModelImportError(f"SOURCE: local-dir: no folder with an {CONFIG}")
    if not isinstance(read_json(folder / CONFIG).get("model_cfg"), dict):
        raise ModelImportError(f"{CONFIG}: has no model_cfg")
    files = (path for path in folder.iterdir() if path.suffix in SUFFIXES)
    present = {path.name: path for path in files if path.is_file()}
    preferred = [present[name] for name in PREFERRED if name in present]
    if not preferred and len(present) != 1:
        names = ", ".join(sorted(present)) or "none"
        raise ModelImportError(f"local-dir: must hold {PREFERRED[0]}; it has {names}")
    weights = preferred[0] if preferred else next(iter(present.values()))
    if weights.suffix == ".safetensors":
        stored_weights([weights])
    return OpenClipFiles(model_name=f"{LOCAL}{folder}", weights=weights)


def _on_hub(repository: str) -> OpenClipFiles:
    require_hub(f"open_clip:{HUB}{repository}")
    from training.core.torchvision_compat import open_clip

    clip = open_clip()
    try:
        clip.pretrained.download_pretrained_from_hf(repository, filename=CONFIG)
        weights = clip.pretrained.download_pretrained_from_hf(repository)
    except Exception:
        raise ModelImportError(_not_downloaded(f"{HUB}{repository}")) from None
    return OpenClipFiles(model_name=f"{HUB}{repository}", weights=Path(weights))


def _tagged(architecture: str, tag: str) -> OpenClipFiles:
    source = f"{architecture}/{tag}"
    require_hub(f"open_clip:{source}")
    from training.core.torchvision_compat import open_clip

    clip = open_clip()
    entry = clip.pretrained.get_pretrained_cfg(architecture, tag)
    if not entry:
        tags = ", ".join(clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise ModelImportError(f"open_clip: {architecture} has no tag {tag!r}; it has {tags}")
    config = clip.get_model_config(architecture)
    if bool(entry.get("quick_gelu")) != bool(config.get("quick_gelu")):
        name = architecture.removesuffix("-quickgelu")
        other = name if config.get("quick_gelu") else f"{name}-quickgelu"
        raise ModelImportError(f"{source}: was trained with another activation; name {other}/{tag}")
    try:
        weights = clip.download_pretrained(entry)
    except Exception:
        raise ModelImportError(_not_downloaded(source)) from None
    return OpenClipFiles(model_name=architecture, weights=Path(weights), preprocessing=entry)


def common_preprocessing(architecture: str) -> dict[str, Any]:
    """How the pretrained weights of an architecture want their images; empty where there are none.

    A file of weights does not say it, and open_clip would take CLIP's. Raises ModelImportError
    where they want different things.
    """
    from training.core.torchvision_compat import open_clip

    clip = open_clip()
    entries = [
        clip.pretrained.get_pretrained_cfg(architecture, tag)
        for tag in clip.list_pretrained_tags_by_model(architecture)
    ]
    keys = ("mean", "std", "interpolation", "resize_mode")
    choices = {json.dumps(found): found for found in ({k: e.get(k) for k in keys} for e in entries)}
    if len(choices) > 1:
        raise ModelImportError(
            f"--weights: pretrained {architecture} differ in their preprocessing; put the file into"
            f" a folder with an {CONFIG} that has yours, and name it local-dir:PATH"
        )
    return next(iter(choices.values()), {})


def _not_downloaded(source: str) -> str:
    if hub_answers():
        return f"{source}: the hub of Hugging Face has no such model, or does not give it to you"
    return f"{source}: was not downloaded before, and the hub of Hugging Face {hub_silence()}"
