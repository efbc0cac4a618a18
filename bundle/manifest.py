"""manifest.json: the description of a bundle. It is written last and read first."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bundle import manifest_schema_1
from bundle.architecture import Architecture
from bundle.schema import NumberRange, SchemaError, from_dict
from bundle.text import Cleaning

SCHEMA = 2
"""What this version writes. It reads schema 1 as well; see bundle.manifest_schema_1."""

Kind = Literal["sparse", "dense"]
"""`sparse`: codes of named concepts. `dense`: a CLIP as it is, with the vectors of its shared space
alone."""

Resize = Literal["shortest_crop", "squash", "longest_pad"]
Framing = Literal["crop", "pad"]
"""How an image that is not square becomes square: its middle is kept, or its short side is padded.
"""

NO_SHARED_DENSE = "this bundle has no dense vector shared by images and texts"
"""What a caller is told who asks a bundle for a dense vector that it does not offer."""

NO_CONCEPTS = (
    "this model is dense and has no concepts; `sparseclip sparsify` makes a sparse one of it"
)
"""What a caller is told who asks a dense model for concepts."""

NO_PATCHES = "this model has no patches on which concepts could be shown"
"""What a caller is told who asks a model without patches where concepts fire."""

# Ranges far beyond any real model. They keep a damaged or hostile manifest from asking for memory
# that nothing backs, and from giving numbers with which no image can be answered.
Size = Annotated[int, NumberRange(1, 2048)]
Mean = Annotated[float, NumberRange(-10, 10)]
Deviation = Annotated[float, NumberRange(1e-3, 100)]
Shade = Annotated[int, NumberRange(0, 255)]
TokenId = Annotated[int, NumberRange(0, 2**24)]


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
    crop: Literal["floor"] | None = None
    """Where `shortest_crop` begins if its middle lies between two pixels: at the first of the two,
    as in Hugging Face's transformers; None: at the even one, as in open_clip."""
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
class Tokenization:
    """How a text becomes token ids: cleaning, tokenizer.json, padding."""

    kind: Literal["clip_bpe", "bpe", "unigram", "wordpiece"]
    """`clip_bpe`: open_clip's SimpleTokenizer. Of the others, the model in tokenizer.json, which is
    run with the file's own normalizer and rules."""
    cleaning: Cleaning = "lower"
    """What is done to a text before."""
    pad_id: TokenId = 0
    """The id after the end of a text, up to T."""
    padding: Literal["left"] | None = None
    """`left`: the padding stands before the text, as Gemma's tokenizers do it. None: after it."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The data that the weights were trained on, and the run. Of a sparse model over another
    library's towers: those of its heads."""

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
class ModelOrigin:
    """The model of another library that the towers come from."""

    source: str
    """As `sparseclip import` names it, a folder by its last name: `hf:siglip-base-patch16-224`."""
    library: str
    """What read it, with its version."""
    weights_sha256: str
    """The digest of its weights."""
    teacher: str = ""
    """The dense bundle NAME/VERSION over which a sparse model was made; else empty."""


@dataclass(frozen=True, kw_only=True)
class SourceParity:
    """How far what is served is from the source library's own model, processor and tokenizer."""

    images: int
    """How many images were compared."""
    texts: int
    """How many texts were compared."""
    max_pixel_error: float
    """The largest difference of two pixels, in units of [0, 1] before normalising."""
    min_image_cosine: float
    min_text_cosine: float
    token_rows: int
    """How many rows of token ids were compared; all were equal."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported graph is from torch in fp32 on golden inputs. An export requires it."""

    items: int
    """How many inputs were compared."""
    min_cosine: float
    """The lowest cosine of the two codes, or dense vectors, of an input."""
    min_support_jaccard: float | None = None
    """The lowest overlap of the two sets of active concepts: intersection over union. None for a
    dense model."""
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
    kind: Kind
    architecture: Architecture
    preprocessing: Preprocessing
    tokenization: Tokenization
    training: Training | None = None
    """None for a model that was not trained here."""
    origin: ModelOrigin | None = None
    """None for towers that were trained here."""
    image_parity: Parity
    text_parity: Parity
    patch_parity: Parity | None = None
    """None without patches."""
    source_parity: SourceParity | None = None
    """None for towers that were trained here."""
    files: dict[str, FileEntry]
    """Every other file of the directory by its relative path."""
    schema: int = SCHEMA
    """That of the file. One of schema 1 keeps its own, and so its digest."""

    def to_json(self) -> str:
        """The manifest as the text of manifest.json.

        A field that is None is left out, so that a manifest keeps its digest when the schema gains
        an optional field.
        """
        fields = _without_none(dataclasses.asdict(self))
        if self.schema == 1:
            fields = manifest_schema_1.downgraded(fields)
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
        if data.get("schema") == 1:
            data = manifest_schema_1.upgraded(data)
        elif data.get("schema") != SCHEMA:
            raise SchemaError(f"schema: this version reads the schemas 1 and {SCHEMA}")
        manifest = from_dict(cls, data, at="")
        if problem := manifest.architecture.problem():
            raise SchemaError(f"architecture.{problem}")
        if manifest.architecture.is_sparse != (manifest.kind == "sparse"):
            raise SchemaError("kind: sparse with concepts, dense without")
        return manifest


def _without_none(value: Any) -> Any:
    """Fields of dataclasses, without those that are None. The free-form `config` keeps its own."""
    if not isinstance(value, dict):
        return value
    return {
        key: entry if key == "config" else _without_none(entry)
        for key, entry in value.items()
        if entry is not None
    }
