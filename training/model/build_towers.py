"""Builds both towers: from a configuration of open_clip, from its pretrained weights, and the text
tower over a sentence encoder."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from training.core.torchvision_compat import open_clip
from training.model.sentence_tower import KEY, SentenceTower, refuse_without_encoder
from training.model.strided_trunk import OUTPUT_STRIDE, strided_trunk
from training.model.towers import ImageTower, TextTower

_NO_TEXT = {"width": 8, "heads": 1, "layers": 1, "vocab_size": 8, "context_length": 4}
"""The text_cfg of a model of open_clip whose text tower is not used."""


class Towers(NamedTuple):
    """Both towers, with the projections that a pretrained checkpoint brought."""

    image: ImageTower
    text: TextTower | SentenceTower
    image_projection: Tensor | None
    text_projection: Tensor | None
    embed_dim: int


def tower_config(name: str, vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """open_clip's configuration `name`, or none for an empty name, with the values of `vision` and
    `text` in place of those it has. A `text` over a sentence encoder replaces all of its section.

    Raises ValueError for a name or a key that open_clip does not have.
    """
    base: dict[str, Any] = {"vision_cfg": {}, "text_cfg": {}}
    if name:
        named = open_clip().get_model_config(name)
        if named is None:
            raise ValueError(f"model.name: open_clip has no configuration {name!r}")
        base = copy.deepcopy(named)
    sections = [("vision", vision, "CLIPVisionCfg", OUTPUT_STRIDE)]
    if KEY in text:
        base["text_cfg"] = dict(text)
    else:
        refuse_without_encoder(text)
        sections.append(("text", text, "CLIPTextCfg", KEY))
    for section, values, owner, own_key in sections:
        fields = [f.name for f in dataclasses.fields(getattr(open_clip(), owner))]
        fields.append(own_key)
        for key in values:
            if key not in fields:
                close = difflib.get_close_matches(key, fields, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"model.{section}.{key}: open_clip has no such value{hint}")
        base[f"{section}_cfg"].update(values)
    return base


def build_towers(config: dict[str, Any], embed_dim: int) -> Towers:
    """Randomly initialised towers from the result of `tower_config`."""
    config = {k: v for k, v in config.items() if k in ("vision_cfg", "text_cfg", "quick_gelu")}
    vision, text = dict(config["vision_cfg"]), config["text_cfg"]
    stride = vision.pop(OUTPUT_STRIDE, None)
    config |= {"vision_cfg": vision, "text_cfg": _NO_TEXT if KEY in text else text}
    model = open_clip().CustomTextCLIP(embed_dim=embed_dim, **config)
    if stride is not None:
        model.visual.trunk = strided_trunk(vision.get("timm_model_name"), stride)
    towers = _split(model, embed_dim)
    return with_sentence_text(towers, text) if KEY in text else towers


def with_sentence_text(towers: Towers, text: Mapping[str, Any]) -> Towers:
    """The towers with another text tower, over the sentence encoder that `model.text` names, with
    random weights. Raises SchemaError."""
    return towers._replace(text=SentenceTower.empty(text), text_projection=None)


def pretrained_towers(name: str, pretrained: str) -> Towers:
    """Towers with the weights of an open_clip tag, or of a local `.safetensors` file.

    Raises ValueError for a file of another format: it would hold pickles, which are not read.
    """
    is_file = "/" in pretrained or "." in pretrained
    if is_file and not pretrained.endswith(".safetensors"):
        raise ValueError("start.pretrained: a tag of open_clip or a .safetensors file")
    model = open_clip().create_model(name, pretrained=pretrained, force_custom_text=True)
    embed_dim = open_clip().get_model_config(name)["embed_dim"]
    return _split(model, int(embed_dim))


def _split(model: Any, embed_dim: int) -> Towers:
    visual, text = model.visual, model.text
    image_projection = getattr(visual, "proj", None)
    text_projection = getattr(text, "text_projection", None)
    return Towers(
        image=ImageTower(visual),
        text=TextTower(text),
        image_projection=_matrix(image_projection),
        text_projection=_matrix(text_projection),
        embed_dim=embed_dim,
    )


def _matrix(projection: object) -> Tensor | None:
    if isinstance(projection, nn.Linear):
        return projection.weight.detach().T.clone()
    return projection.detach().clone() if isinstance(projection, Tensor) else None
