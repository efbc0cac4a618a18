"""manifest.json: the typed description of a bundle. Written last, read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from bundle.schema import SchemaError, from_dict

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes pixels: alpha over `background`, resize, scale to [0, 1], normalise."""

    size: int
    """S: pixels are (3, S, S)."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["shortest_crop", "squash", "longest_pad"] = "shortest_crop"
    """open_clip's `resize_mode`: shortest side + centre crop, squash, or longest side + padding."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    background: tuple[int, int, int] = (255, 255, 255)
    """What shows through transparent pixels."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shapes of a model's inputs and outputs, and how the codes come about."""

    family: str
    """What built the towers, with the configuration's name, such as `open_clip:ViT-B-32`."""
    concepts: int
    """C, the width of the codes."""
    dense_dim: int
    """D, the width of the vector that the last projection reads, of an image."""
    text_dense_dim: int
    """The same of a text: another one where a head is `replaced` and the towers differ in width."""
    head: Literal["replaced", "stacked"]
    pool: Literal["cls", "patch_mean"]
    patch_grid: tuple[int, int]
    """Rows and columns of patches; P is their product."""
    context_length: int
    """T, the tokens of a text; longer ones are cut."""
    vocabulary: int
    """How many token ids the text tower has."""
    image_topk: int
    """Kmax of images: codes beyond it are cut, and counted in `active`."""
    text_topk: int
    patch_topk: int
    logit_scale: float
    """exp(logit scale) at the end of training."""
    logit_scale_cap: float
    """The sparsity knob: the clamp of exp(logit scale) during training."""
    config: dict[str, Any] = field(default_factory=dict)
    """What training.model.sparse_clip needs to build the torch model again."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the weights were trained on, and how much."""

    recipe: str
    data: str
    pairs: int
    epochs: float
    samples_seen: int
    seed: int
    started_from: str = "scratch"
    hardware: str = ""
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    """Held-out figures by name, as `sparseclip evaluate` gives them; those of clarity end in the
    name of the encoder that judged."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The exported graphs against torch fp32 on golden inputs (the gate of the export)."""

    items: int
    min_cosine: float
    min_support_jaccard: float
    max_abs_error: float
    runtime: str


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size and digest of one file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a reader needs to know before it opens another file of the bundle."""

    name: str
    version: str
    architecture: Architecture
    preprocessing: Preprocessing
    training: Training
    image_parity: Parity
    text_parity: Parity
    patch_parity: Parity
    files: dict[str, FileEntry]
    """Every other file of the directory by its relative path."""
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The manifest as the text of manifest.json."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of manifest.json, which holds those of all other files of the bundle."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads manifest.json.

        Raises SchemaError, naming the field, for text that is not JSON, another schema, an
        unknown or missing key, or a value of the wrong type.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise SchemaError("manifest.json: not JSON") from None
        if not isinstance(data, dict):
            raise SchemaError("manifest.json: not an object")
        if data.get("schema") != SCHEMA:
            raise SchemaError(f"schema: this version reads schema {SCHEMA} only")
        return from_dict(cls, data, at="")
