"""What a server says of a model, and of its own limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparseclip.results import ImageFraming, ModelVersion

ModelKind = Literal["sparse", "dense"]
"""What a model makes of an input: a code of named concepts, or a vector of the space that images
and texts share. A dense model has no concepts."""

ScoreKind = Literal["softmax", "sigmoid"]
"""How cosines become probabilities: one distribution over all labels, or a probability of its own
for each label, as SigLIP was trained."""


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What a server accepts. It refuses a request that goes beyond one of these."""

    message_bytes: int
    """The whole request."""
    image_bytes: int
    """One encoded image."""
    image_pixels: int
    """Width times height of one image."""
    image_side: int
    """The longer side of one image, in pixels."""
    images_per_call: int
    texts_per_call: int
    text_bytes: int
    """One text, as UTF-8."""
    max_deadline_seconds: int
    """The longest deadline of a call, and so the longest life of one stream."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The shapes of a loaded model and the limits of its server."""

    model: ModelVersion
    concepts: int
    """C, the width of the codes; 0 of a dense model."""
    dense_dim: int
    """D, the width of the dense vectors. 0 where the model has none that images and texts share."""
    text_dense_dim: int
    """The width of a text's dense vector: D, since images and texts share the space."""
    image_size: int
    """S: images are resized to S x S pixels."""
    patch_rows: int
    patch_columns: int
    context_length: int
    """T: texts are cut to this many tokens."""
    logit_scale: float
    """Zero-shot logits are the cosine times this, plus `logit_bias`."""
    limits: ServerLimits
    framings: tuple[ImageFraming, ...] = ()
    """The framings that a caller may choose, the model's own first; none where it squashes its
    images."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """The filter by which images are resized; None when the server does not say."""
    kind: ModelKind = "sparse"
    """Whether the model has concepts."""
    score: ScoreKind = "softmax"
    """How logits become probabilities."""
    logit_bias: float = 0.0
    """What is added to scaled cosines; 0 unless the score is the sigmoid."""
