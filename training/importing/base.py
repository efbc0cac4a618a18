"""The contract of a source of models: what it reads, and the source library's own model beside it.

B batch, N inputs, T tokens, P patches, S image side, D width of the shared space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.architecture import Score, SentenceOrigin
from bundle.manifest import Preprocessing, Tokenization

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn


class Reference(Protocol):
    """The source library's own processor, tokenizer and model, and no code of this project: what
    the imported model is compared with. In float32 and evaluation mode; it may share its weights
    with the modules of ImportedModel."""

    def pixels(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(N, 3, S, S) of RGB or grey images of any size, normalised."""

    def tokens(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(N, T), padded and cut as the library does it for this model."""

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embeddings (N, D), of any length."""

    def texts(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings (N, D), of any length."""


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """A model that a source has read, as graphs can be written of it.

    The modules are in float32 and evaluation mode on the CPU, and torch.export traces them for any
    batch size. They give vectors as they are before they are brought to length 1.
    """

    family: str
    """See bundle.architecture.Architecture: `open_clip:ViT-B-32`, `hf:siglip`."""
    library: str
    """What read it, with its version: `transformers 5.19.0`."""
    image: nn.Module
    """Pixels (B, 3, S, S) to (B, D)."""
    text: nn.Module
    """Token ids (B, T) int64 to (B, D)."""
    patches: nn.Module | None = None
    """Pixels (B, 3, S, S) to a tuple of (B, D), as `image`, and (B, P, D): what the tower's pooling
    and projection give for each patch alone. For a class-token ViT the last norm and the projection
    of each patch token, for attention pooling the pooling head over a sequence of that one token,
    for mean pooling the head over each cell. None for a tower without patches."""
    patch_grid: tuple[int, int] | None = None
    """Rows and columns of the patches; None without."""
    preprocessing: Preprocessing
    tokenization: Tokenization
    write_tokenizer: Callable[[Path], None]
    """Writes the tokenizer.json that the kind of `tokenization` reads to a path."""
    context_length: int
    """T."""
    vocabulary: int
    """How many token ids the text tower's table has; the tokenizer may have fewer, not more."""
    score: Score = "softmax"
    logit_scale: float
    """exp(logit scale): what cosines are multiplied by."""
    logit_bias: float = 0.0
    weights_sha256: str
    """See `weights_digest`."""
    text_encoder: SentenceOrigin | None = None
    """The sentence encoder on which the text tower of an own run stands."""
    licence: str | None = None
    """The text of a licence that the source brings along; None where it brings none."""
    reference: Reference


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What may stand beside SOURCE."""

    weights: Path | None = None
    """A file of weights, for a source that names an architecture alone."""


class ModelSource(ABC):
    """One kind of source: what stands before the colon of SOURCE. It is made without arguments.

    Its module imports torch and its library inside functions: a source that is not there is refused
    before the seconds that such imports take.
    """

    @abstractmethod
    def load(self, rest: str, options: SourceOptions) -> ImportedModel:
        """Reads the model that `rest`, the part after the colon, names.

        What does not fit together is never built "nearly": weights with missing, further or
        misshapen tensors, a tokenizer with more ids than the text tower, images that are not
        square. Raises ModelImportError.
        """

    @abstractmethod
    def label(self, rest: str) -> str:
        """What the bundle's manifest calls the source: `rest`, a path by its last name alone."""


def with_home(path: str) -> Path:
    """A path of a SOURCE. A shell does not replace a `~` that stands behind a colon."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)
