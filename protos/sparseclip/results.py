"""Embeddings: frozen dataclasses with numpy arrays, no protobuf types.

B items, P patches, C concepts, K active concepts of an item, D CLIP width, L labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from numpy.typing import NDArray

from sparseclip.errors import ItemStatus

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float32]

Priority = Literal["interactive", "bulk"]
"""A caller waits for interactive work, which comes first; bulk work is slower where much waits."""

ImageFraming = Literal["crop", "pad"]
"""How an image that is not square becomes the model's square.

`crop`: the shorter side fills the square, and the middle of the longer one is kept. `pad`: the
longer side fills it, and the rest is ground.
"""


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A model of the server, such as the one that answered."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Timings:
    """How long the stages of a call or of one item took, in microseconds."""

    decode_us: int = 0
    """Reading and resizing an image, or tokenizing a text."""
    queue_us: int = 0
    """Waiting for a slot in a batch."""
    inference_us: int = 0
    """The model's run of the batch that held the item."""
    total_us: int = 0
    """From the parsed request to the finished reply; 0 on items."""


@dataclass(frozen=True, kw_only=True)
class ScoredConcept:
    """A concept with its name and its activation."""

    concept_id: int
    name: str
    value: float
    """The activation, un-normalised; 0 when the concept did not fire."""
    name_confidence: float | None = None
    """How far the name can be trusted, in [0, 1]; see `Concept.name_confidence`."""
    hub: bool = False
    """It fires on so many unrelated images that it says little about this one."""


@dataclass(frozen=True, kw_only=True)
class ScoredCaption:
    """A caption of the training data that is near to an image."""

    text: str
    similarity: float
    """The cosine of the caption's code and the image's."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What the model read of an input, and what it did not.

    The fields that speak of the other kind of input keep their default.
    """

    tokens: int = 0
    """The tokens of the whole text, its start and end included."""
    truncated: bool = False
    """The text has more tokens than the model's context, and its end was not read."""
    unknown_words: tuple[str, ...] = ()
    """The words of the text that the text tower does not know. It answers about them all the
    same."""
    framing: ImageFraming | None = None
    """How the image was framed; None where the model squashes its images."""
    image_share: float = 0.0
    """The share of the image's area that the model read, in (0, 1]."""
    ground: str | None = None
    """The colour that was laid under a transparent image, such as `#000000`; None for others."""
    frames: int = 0
    """The frames of an animation, of which the first is read; 1 for a still image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchMap:
    """One concept's activation on every patch of an image."""

    concept_id: int
    values: FloatArray
    """(rows, columns) float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """One item's answer. An output that was not asked for is empty, as are all when it failed."""

    source: str
    """The item's path, its text, or `image[i]` for bytes and image objects."""
    status: ItemStatus
    model: ModelVersion | None = None
    """None when the item never reached a model."""
    width: int = 0
    """C, the width of the codes; 0 of a dense model."""
    indices: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    """(K,) concept ids, strictly increasing."""
    values: FloatArray = field(default_factory=lambda: np.empty(0, np.float32))
    """(K,) un-normalised activations, all > 0."""
    norm: float = 0.0
    """L2 norm over all active concepts, those that the graph's TopK cut included. Of a dense model,
    that of `dense`."""
    active: int = 0
    """How many concepts fired; more than K when the graph's TopK was too short for the item. With 0
    no concept answers to the item, and its code says nothing. A dense model has no concepts, and 0
    says nothing of it."""
    concepts: tuple[ScoredConcept, ...] = ()
    """The strongest concepts, strongest first: `Outputs.top_concepts` of them."""
    dense: FloatArray | None = None
    """(D,), the vector in the space that images and texts share, not normalised."""
    patches: tuple[PatchMap, ...] = ()
    """One map for each of `Outputs.patch_concepts`; empty for a text."""
    captions: tuple[ScoredCaption, ...] = ()
    """The training captions nearest to an image, best first: `Outputs.captions` of them, or fewer
    where the model has fewer."""
    coverage: Coverage = Coverage()
    """What the model read of the item."""
    timings: Timings = field(default_factory=Timings)

    @property
    def ok(self) -> bool:
        """The item succeeded."""
        return self.status.ok


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings(Sequence[Embedding]):
    """The answers of one `embed`, in the order of the items: images first, then texts.

    It is a sequence of Embedding.
    """

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
        """The items that failed; their `status` says why."""
        return tuple(item for item in self.items if not item.ok)

    def to_csr(self, *, normalize: bool = False) -> csr_array:
        """The codes of the successful items as a scipy.sparse.csr_array (len(ok), C) of float32.

        With `normalize`, rows are divided by their norm: inner products of two such matrices are
        cosine similarities. Raises ValueError when the rows come from different models.
        """
        return stack_codes(self.ok, normalize=normalize)

    def to_dense(self, *, normalize: bool = True) -> FloatArray:
        """The dense vectors of the successful items as an array (len(ok), D) of float32.

        A dense model sends them by default, others with `Outputs(dense=True)`. Unless `normalize`
        is False, rows have length 1: inner products are cosine similarities. Raises ValueError when
        the rows come from different models, or a row has no dense vector.
        """
        return stack_dense(self.ok, normalize=normalize)


def stack_codes(items: Sequence[Embedding], *, normalize: bool = False) -> csr_array:
    """Stacks the codes of successful items into a matrix (B, C) of float32.

    Raises ValueError when the items come from different models.
    """
    # Takes a quarter of a second, so only those wait for it who build a matrix.
    from scipy.sparse import csr_array

    _check_one_model(items)
    if any(item.dense is not None and not item.width for item in items):
        raise ValueError("the model is dense and has no codes: take to_dense()")
    width = items[0].width if items else 0
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum([len(item.indices) for item in items], out=offsets[1:])
    indices = np.concatenate([np.empty(0, np.int64), *(item.indices for item in items)])
    values = np.concatenate(
        [
            np.empty(0, np.float32),
            *(item.values / max(item.norm, 1e-12) if normalize else item.values for item in items),
        ]
    )
    return csr_array(
        (values.astype(np.float32), indices.astype(np.int64), offsets), shape=(len(items), width)
    )


def stack_dense(items: Sequence[Embedding], *, normalize: bool = True) -> FloatArray:
    """Stacks the dense vectors of successful items into an array (B, D) of float32.

    Raises ValueError when the items come from different models, or one has no dense vector.
    """
    _check_one_model(items)
    rows = [item.dense for item in items if item.dense is not None]
    if len(rows) < len(items):
        raise ValueError("a row has no dense vector: ask for Outputs(dense=True)")
    if not rows:
        return np.zeros((0, 0), dtype=np.float32)
    stacked: FloatArray = np.stack(rows)
    if normalize:
        stacked = stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)
    return stacked.astype(np.float32)


def _check_one_model(items: Sequence[Embedding]) -> None:
    if len({(item.model, item.width) for item in items}) > 1:
        raise ValueError("the rows come from different models")
