"""The shapes of a model's inputs and outputs, as its manifest says them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bundle.schema import NumberRange

# Ranges far beyond any real model. They keep a damaged or hostile manifest from asking for memory
# that nothing backs, and from giving numbers with which no image can be answered.
Count = Annotated[int, NumberRange(1, 2**24)]
CountOrNone = Annotated[int, NumberRange(0, 2**24)]
Width = Annotated[int, NumberRange(1, 2**16)]
Grid = Annotated[int, NumberRange(1, 1024)]
Scale = Annotated[float, NumberRange(1e-3, 10_000)]
Bias = Annotated[float, NumberRange(-10_000, 10_000)]

Score = Literal["softmax", "sigmoid"]
"""How cosines become probabilities: over labels, by softmax(scale * cosine), as CLIP was trained;
or for each pair alone, by sigmoid(scale * cosine + bias), as SigLIP was (arXiv 2303.15343)."""


@dataclass(frozen=True, kw_only=True)
class SentenceOrigin:
    """The sentence encoder on which a text tower stands: where its weights are from."""

    name: str
    """Such as all-MiniLM-L6-v2; of a folder its last name."""
    weights_sha256: str
    """The digest of the weights with which training began. The graph has them rounded, or trained
    further."""
    licence: str
    """The licence of these weights, as their publisher names it; `unknown` where nobody does."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shapes of a model's inputs and outputs, and how it computes its codes.

    A dense model has no codes: its fields about them are 0 or None.
    """

    family: str
    """What built the towers and the name of their configuration, such as `open_clip:ViT-B-32`, or
    `hf:siglip` for a directory of Hugging Face."""
    dense_dim: Width
    """D, the width of the graphs' output `dense` for an image. Of a model whose dense vectors are
    not shared it is what the last projection reads."""
    text_dense_dim: Width
    """The same width for a text. It differs from D where the head is `replaced` and the towers
    differ in width."""
    context_length: Width
    """T, the number of tokens to which texts are padded or cut."""
    vocabulary: Count
    """How many token ids the text tower has."""
    logit_scale: Scale
    """exp(logit scale) at the end of training."""
    patch_grid: tuple[Grid, Grid] | None = None
    """Rows and columns of patches; P is their product. None for a tower without patches."""
    score: Score = "softmax"
    """How cosines of images and texts become probabilities."""
    logit_bias: Bias = 0.0
    """What the sigmoid adds to scaled cosines."""
    dense: Literal["shared"] | None = None
    """`shared`: the output `dense` of an image and of a text lie in one space and may be compared,
    as with CLIP's own embedding. None: they are only what the two projections read, and are not
    offered to callers. Training compares codes and not these, so a model trained here has none."""
    concepts: CountOrNone = 0
    """C, the width of the codes; 0 for a dense model."""
    head: Literal["replaced", "stacked"] | None = None
    """The sparse projection stands in place of CLIP's own, or reads its output."""
    pool: Literal["cls", "patch_mean"] | None = None
    """The codes of an image are those of its pooled vector, or the mean of its patches' codes."""
    image_topk: CountOrNone = 0
    """K of an image: the graph cuts further codes, but counts them in its output `active`."""
    text_topk: CountOrNone = 0
    """K of a text."""
    patch_topk: CountOrNone = 0
    """K of each patch; 0 without patches."""
    logit_scale_cap: Scale | None = None
    """The upper bound of exp(logit scale) during training, which sets how sparse codes become. None
    where there was none."""
    text_encoder: SentenceOrigin | None = None
    """None for a text tower that stands on no sentence encoder."""
    config: dict[str, Any] = field(default_factory=dict)
    """What training.model.sparse_clip needs to build the torch model again. Empty where the graphs
    were written from another library's model."""

    @property
    def text_encoder_sha256(self) -> str:
        """The digest of the sentence encoder's weights; empty without one."""
        return "" if self.text_encoder is None else self.text_encoder.weights_sha256

    @property
    def is_sparse(self) -> bool:
        """Whether the model has codes of concepts."""
        return self.concepts > 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; (0, 0) for a tower without."""
        return self.patch_grid or (0, 0)

    @property
    def patches(self) -> int:
        """P."""
        rows, columns = self.grid
        return rows * columns

    def problem(self) -> str:
        """What does not fit together, with the field's name; empty where all does."""
        if not self.is_sparse:
            for name in ("image_topk", "text_topk", "patch_topk", "head", "pool"):
                if getattr(self, name):
                    return f"{name}: a dense model has none"
            return "" if self.dense else "dense: a dense model shares its vectors"
        if self.head is None or self.pool is None:
            return "head, pool: a sparse model has both"
        if not (self.image_topk and self.text_topk):
            return "image_topk, text_topk: a sparse model has both"
        if bool(self.patch_topk) != bool(self.patch_grid):
            return "patch_topk: a model with patches has it, and no other"
        return ""
