"""What the client gives back: frozen dataclasses with numpy arrays, no protobuf types.

B items, P patches, C concepts, K active concepts of an item, D CLIP width, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from sparseclip.errors import ItemStatus

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """The model that answered."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Where the time went, in microseconds."""

    decode_us: int = 0
    queue_us: int = 0
    inference_us: int = 0
    total_us: int = 0
    """Of a whole call; 0 on items."""


@dataclass(frozen=True, kw_only=True)
class ScoredConcept:
    """A concept with its name and how strongly it fired."""

    concept_id: int
    name: str
    value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchMap:
    """One concept's activation on every patch: values (rows, columns) float32."""

    concept_id: int
    values: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """One item's answer. Outputs that were not asked for, or that failed, are empty."""

    source: str
    """The item's path, its text, or `image[i]` for bytes and image objects."""
    status: ItemStatus
    model: ModelVersion | None = None
    """None when the item never reached a model."""
    width: int = 0
    """C, the width of the codes."""
    indices: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    """(K,) concept ids, strictly increasing."""
    values: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))
    """(K,) un-normalised activations, all > 0."""
    norm: float = 0.0
    """L2 norm over all active concepts, also those that the graph's TopK cut."""
    active: int = 0
    """How many concepts fired; more than K when the graph's TopK was too short."""
    concepts: tuple[ScoredConcept, ...] = ()
    """The strongest, strongest first."""
    dense: FloatArray | None = None
    """(D,), the vector that the sparse projection reads."""
    patches: tuple[PatchMap, ...] = ()
    timings: Timings = field(default_factory=Timings)

    @property
    def ok(self) -> bool:
        """The item succeeded."""
        return self.status.ok


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings(Sequence[Embedding]):
    """The answers to one `embed`, in the order of the items: images first, then texts."""

    items: tuple[Embedding, ...]

    @overload
    def __getitem__(self, index: int) -> Embedding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Embedding]: ...
    def __getitem__(self, index: int | slice) -> Embedding | Sequence[Embedding]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Embedding]:
        return iter(self.items)

    @property
    def ok(self) -> tuple[Embedding, ...]:
        """The items that succeeded: the rows of `to_csr`, in order."""
        return tuple(item for item in self.items if item.ok)

    @property
    def failed(self) -> tuple[Embedding, ...]:
        """The items that did not."""
        return tuple(item for item in self.items if not item.ok)

    def to_csr(self, *, normalize: bool = False) -> csr_array:
        """The codes of the successful items as float32 (len(ok), C).

        With `normalize`, rows are divided by their norm: inner products of two such matrices are
        cosine similarities. Raises ValueError when the rows come from different models.
        """
        return stack_codes(self.ok, normalize=normalize)


def stack_codes(items: Sequence[Embedding], *, normalize: bool = False) -> csr_array:
    """Stacks the codes of successful items of one model into float32 (B, C)."""
    from scipy.sparse import csr_array  # a quarter of a second, for those who want a matrix

    if len({(item.model, item.width) for item in items}) > 1:
        raise ValueError("the rows come from different models")
    width = items[0].width if items else 0
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum([len(item.indices) for item in items], out=offsets[1:])
    indices = np.concatenate([np.empty(0, np.int64), *(item.indices for item in items)])
    values = np.concatenate(
        [
            np.empty(0, np.float32),
            *(i.values / max(i.norm, 1e-12) if normalize else i.values for i in items),
        ]
    )
    return csr_array(
        (values.astype(np.float32), indices.astype(np.int64), offsets), shape=(len(items), width)
    )


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What a server accepts."""

    message_bytes: int
    image_bytes: int
    image_pixels: int
    image_side: int
    images_per_call: int
    texts_per_call: int
    text_bytes: int
    max_deadline_seconds: int


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A loaded model's shapes and the limits of its server."""

    model: ModelVersion
    concepts: int
    """C, the width of the codes."""
    dense_dim: int
    """D, the width of an image's dense vector."""
    text_dense_dim: int
    """The width of a text's: another one where the towers differ in width."""
    image_size: int
    """Images are resized to this many pixels a side."""
    patch_rows: int
    patch_columns: int
    context_length: int
    """Texts are cut to so many tokens."""
    logit_scale: float
    """Zero-shot logits are this times the cosine."""
    limits: ServerLimits
