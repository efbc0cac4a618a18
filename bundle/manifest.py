"""manifest.json: the description of a bundle. It is written last and read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bundle.schema import NumberRange, SchemaError, from_dict

SCHEMA = 1

Resize = Literal["shortest_crop", "squash", "longest_pad"]
Framing = Literal["crop", "pad"]
"""How an image that is not square becomes square: its middle is kept, or its short side is padded.
"""

NO_SHARED_DENSE = "this bundle has no dense vector shared by images and texts"
"""What a caller is told who asks a bundle for a dense vector that it does not offer."""

# Ranges far beyond any real model. They keep a damaged or hostile manifest from asking for memory
# that nothing backs, and from giving numbers with which no image can be answered.
Size = Annotated[int, NumberRange(1, 2048)]
Count = Annotated[int, NumberRange(1, 2**24)]
Width = Annotated[int, NumberRange(1, 2**16)]
Grid = Annotated[int, NumberRange(1, 1024)]
Mean = Annotated[float, NumberRange(-10, 10)]
Deviation = Annotated[float, NumberRange(1e-3, 100)]
Shade = Annotated[int, NumberRange(0, 255)]
Scale = Annotated[float, NumberRange(1e-3, 10_000)]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes pixels: alpha over `background`, resize, scale to [0, 1], normalise."""

    size: Size
    """S: pixels are (3, S, S)."""
    mean: tuple[Mean, Mean, Mean]
    """Subtracted from red, green and blue."""
    std: tuple[Deviation, Deviation, Deviation]
    """By which they are then divided."""
    resize: Resize = "shortest_crop"
    """open_clip's `resize_mode`: the shortest side becomes S and the centre is cropped; both sides
    become S; or the longest side becomes S and the rest is padded."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    background: tuple[Shade, Shade, Shade] = (255, 255, 255)
    """What shows through transparent pixels."""

    @property
    def framings(self) -> tuple[Framing, ...]:
        """The framings that a caller may choose, the model's own first; none where it squashes."""
        choices: dict[str, tuple[Framing, ...]] = {
            "shortest_crop": ("crop", "pad"),
            "longest_pad": ("pad", "crop"),
        }
        return choices.get(self.resize, ())


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shapes of a model's inputs and outputs, and how it computes its codes."""

    family: str
    """The library that built the towers and the name of their configuration, such as
    `open_clip:ViT-B-32`."""
    concepts: Count
    """C, the width of the codes."""
    dense_dim: Width
    """D, the width of the graphs' output `dense` for an image: what the last projection reads."""
    text_dense_dim: Width
    """The same width for a text. It differs from D where the head is `replaced` and the towers
    differ in width."""
    head: Literal["replaced", "stacked"]
    """The sparse projection stands in place of CLIP's own, or reads its output."""
    pool: Literal["cls", "patch_mean"]
    """The codes of an image are those of its pooled token, or the mean of its patches' codes."""
    patch_grid: tuple[Grid, Grid]
    """Rows and columns of patches; P is their product."""
    context_length: Width
    """T, the number of tokens to which texts are padded or cut."""
    vocabulary: Count
    """How many token ids the text tower has."""
    image_topk: Count
    """K of an image: the graph cuts further codes, but counts them in its output `active`."""
    text_topk: Count
    """K of a text."""
    patch_topk: Count
    """K of each patch."""
    logit_scale: Scale
    """exp(logit scale) at the end of training."""
    logit_scale_cap: Scale
    """The upper bound of exp(logit scale) during training, which sets how sparse codes become."""
    config: dict[str, Any] = field(default_factory=dict)
    """What training.model.sparse_clip needs to build the torch model again."""
    dense: Literal["shared"] | None = None
    """`shared`: the output `dense` of an image and of a text lie in one space and may be compared,
    as with CLIP's own embedding. None: they are only what the two projections read, and are not
    offered to callers. Training compares codes and not these, so a model trained here has none."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The data that the weights were trained on, and the run."""

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
    """Held-out figures by name, as `sparseclip evaluate` gives them. A figure of clarity ends in
    the name of the encoder that judged it."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported graph is from torch in fp32 on golden inputs. An export requires it."""

    items: int
    """How many inputs were compared."""
    min_cosine: float
    """The lowest cosine of the two codes of an input."""
    min_support_jaccard: float
    """The lowest overlap of the two sets of active concepts: intersection over union."""
    max_abs_error: float
    """The largest difference of two values."""
    runtime: str
    """What ran the graph, with its version."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size in bytes and digest of one file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a reader must know before it opens any other file of the bundle."""

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
        """The manifest as the text of manifest.json.

        A field that is None is left out, so that a manifest keeps its digest when the schema gains
        an optional field.
        """
        fields = _without_none(dataclasses.asdict(self))
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """The sha256 of manifest.json. It stands for the whole bundle, since the manifest holds the
        digests of all other files."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Reads manifest.json.

        Raises SchemaError, naming the field, for text that is not JSON, another schema, an unknown
        or missing key, and a value of the wrong type.
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


def _without_none(value: Any) -> Any:
    """Fields of dataclasses, without those that are None. The free-form `config` keeps its own."""
    if not isinstance(value, dict):
        return value
    return {
        key: entry if key == "config" else _without_none(entry)
        for key, entry in value.items()
        if entry is not None
    }
