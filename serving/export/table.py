"""Rows of a shard as Arrow tables. K active concepts of a row, D CLIP width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bundle.concepts import ConceptVocabulary
from bundle.store import Bundle
from serving.engines.rows import Row
from serving.export.inputs.base import Entry, Modality
from serving.export.job import OutputConfig


class Failed(NamedTuple):
    """An entry without a row, and why."""

    reason: str


class Tables(NamedTuple):
    """What a shard gives."""

    rows: Any
    """pyarrow.Table: id, source, indices and values (K each, ids ascending), active, norm, and
    `concepts` (the strongest with their names) and `dense` (D) where asked for."""
    quarantine: Any
    """pyarrow.Table: id, source, reason."""


def tables_of(
    entries: Sequence[Entry],
    results: Sequence[Row | Failed],
    outputs: OutputConfig,
    vocabulary: ConceptVocabulary,
    width: int,
) -> Tables:
    """Results beside their entries, in the entries' order."""
    import pyarrow

    good = [(e, r) for e, r in zip(entries, results, strict=True) if isinstance(r, Row)]
    bad = [(e, r) for e, r in zip(entries, results, strict=True) if isinstance(r, Failed)]
    rows = [row for _, row in good]
    columns = {
        "id": pyarrow.array([entry.id for entry, _ in good], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in good], pyarrow.string()),
        "indices": _lists([row.indices for row in rows], np.dtype(np.uint32)),
        "values": _lists([row.values for row in rows], np.dtype(np.float32)),
        "active": pyarrow.array([row.active for row in rows], pyarrow.uint32()),
        "norm": pyarrow.array([row.norm for row in rows], pyarrow.float32()),
    }
    if outputs.top:
        columns["concepts"] = _strongest(rows, outputs.top, vocabulary)
    if outputs.dense:
        flat = np.concatenate([row.dense for row in rows]) if rows else np.zeros(0, np.float32)
        columns["dense"] = pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(flat.astype(np.float32)), width
        )
    quarantine = {
        "id": pyarrow.array([entry.id for entry, _ in bad], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in bad], pyarrow.string()),
        "reason": pyarrow.array([failed.reason for _, failed in bad], pyarrow.string()),
    }
    return Tables(pyarrow.table(columns), pyarrow.table(quarantine))


def width_of(bundle: Bundle, modality: Modality) -> int:
    """D of the dense vectors."""
    shape = bundle.manifest.architecture
    return shape.text_dense_dim if modality == "text" else shape.dense_dim


def _lists(rows: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.concatenate(rows).astype(kind) if rows else np.zeros(0, kind)
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(flat))


def _strongest(rows: Sequence[Row], count: int, vocabulary: ConceptVocabulary) -> Any:
    import pyarrow

    tops = [row.top(count) for row in rows]
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([len(top) for top in tops], out=offsets[1:])
    flat = [pair for top in tops for pair in top]
    names = [vocabulary.concepts[concept].name for concept, _ in flat]
    concepts = pyarrow.StructArray.from_arrays(
        [
            pyarrow.array([concept for concept, _ in flat], pyarrow.uint32()),
            pyarrow.array(names, pyarrow.string()),
            pyarrow.array([value for _, value in flat], pyarrow.float32()),
        ],
        names=["id", "name", "value"],
    )
    return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), concepts)
