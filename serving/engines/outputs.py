"""From an engine's output to checked rows, one per item.

B batch, K active concepts, Kp slots per patch, C concepts, P patches, D CLIP width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.architecture import Architecture
from bundle.codes import SparseCodes
from bundle.onnx_graph import GraphName
from serving.engines.base import EngineError, EngineOutput, PatchOutput


@dataclass(frozen=True, kw_only=True)
class Patches:
    """The codes of one image's patches; the slots of a patch are in no order."""

    indices: NDArray[np.int64]
    """(P, Kp)."""
    values: NDArray[np.float32]
    """(P, Kp), >= 0; 0 in unused slots."""
    complete: bool
    """Whether no patch had more active concepts than Kp."""

    def map(self, concept_id: int) -> NDArray[np.float32]:
        """One concept's activation on every patch, (P,)."""
        matches = self.indices == concept_id
        values: NDArray[np.float32] = (self.values * matches).sum(axis=1, dtype=np.float32)
        return values


@dataclass(frozen=True, kw_only=True)
class OutputRow:
    """One item's checked output."""

    indices: NDArray[np.uint32]
    """(K,), strictly increasing."""
    values: NDArray[np.float32]
    """(K,), finite and > 0."""
    active: int | None
    """How many concepts are active, those beyond the graph's TopK included; None of a dense
    model."""
    norm: float
    """The L2 norm of the code over all C, or of the vector of a dense model."""
    dense: NDArray[np.float32]
    """(D,)."""
    patches: Patches | None

    def top(self, count: int) -> list[tuple[int, float]]:
        """Ids and values of the strongest concepts, strongest first."""
        order = np.argsort(-self.values, kind="stable")[:count]
        return list(zip(self.indices[order].tolist(), self.values[order].tolist(), strict=True))


def rows_of(
    output: EngineOutput, batch: int, architecture: Architecture, graph: GraphName
) -> list[OutputRow | EngineError]:
    """Checks the output of a graph's run row by row.

    A row with NaN, infinity, a negative value or an id outside of C becomes an EngineError, as does
    a dense model's vector of length 0, which has no cosine with anything. Raises EngineError when
    the output does not have the shapes of `batch` rows.
    """
    _check_shapes(output, batch, architecture, graph)
    indices, values = output.indices, output.values
    is_sparse = architecture.is_sparse
    norms = output.norm if is_sparse else _lengths(output.dense)
    # (B,): which rows a model can have given.
    valid = (
        _valid_codes(indices, values, architecture.concepts)
        & np.isfinite(norms)
        & ((norms >= 0) if is_sparse else (norms > 0))
        & np.isfinite(output.dense).all(axis=1)
        & (output.active >= (values > 0).sum(axis=1))
    )
    maps = output.patches
    if maps is not None:
        valid &= _valid_codes(maps.indices, maps.values, architecture.concepts).all(axis=1)
        valid &= (maps.active >= 0).all(axis=1)
    keep = np.flatnonzero(valid)
    codes = SparseCodes.from_topk(indices[keep], values[keep], architecture.concepts)
    rows: list[OutputRow | EngineError] = [
        EngineError("a row holds numbers that no model gives")
    ] * batch
    for position, b in enumerate(keep):
        row_indices, row_values = codes.row(position)
        rows[b] = OutputRow(
            indices=row_indices,
            values=row_values,
            active=int(output.active[b]) if is_sparse else None,
            norm=float(norms[b]),
            dense=output.dense[b],
            patches=_patches(maps, int(b)) if maps is not None else None,
        )
    return rows


def _lengths(dense: NDArray[np.float32]) -> NDArray[np.float32]:
    """The L2 norms of vectors (B, D), (B,)."""
    lengths: NDArray[np.float32] = np.linalg.norm(dense, axis=1)
    return lengths


def _valid_codes(indices: NDArray[Any], values: NDArray[Any], concepts: int) -> NDArray[np.bool_]:
    """Which codes (..., K) are valid, (...). The index of an unused slot may be anything."""
    ids = (indices >= 0) & (indices < concepts)
    valid: NDArray[np.bool_] = (np.isfinite(values) & (values >= 0) & (ids | (values == 0))).all(-1)
    return valid


def _patches(maps: PatchOutput, b: int) -> Patches:
    return Patches(
        indices=maps.indices[b],
        values=maps.values[b],
        complete=bool((maps.active[b] <= maps.values.shape[2]).all()),
    )


def _check_shapes(
    output: EngineOutput, batch: int, architecture: Architecture, graph: GraphName
) -> None:
    shape = output.values.shape
    width = architecture.text_dense_dim if graph == "text" else architecture.dense_dim
    fits = (
        len(shape) == 2
        and shape[0] == batch
        and output.indices.shape == shape
        and output.active.shape == (batch,)
        and output.norm.shape == (batch,)
        and output.dense.shape == (batch, width)
        and (output.patches is not None) == (graph == "patches")
    )
    if fits and output.patches is not None:
        rows, columns = architecture.grid
        grid = (batch, rows * columns)
        inner = output.patches.values.shape
        fits = (
            len(inner) == 3
            and inner[:2] == grid
            and output.patches.indices.shape == inner
            and output.patches.active.shape == grid
        )
    if not fits:
        raise EngineError("outputs of the wrong shape")
