"""Rows of a shard as Arrow tables. K active concepts of a row, D CLIP width, M concepts with maps,
H by W the grid of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import ConceptVocabulary
from bundle.manifest import Architecture
from bundle.store import Bundle
from serving.engines.outputs import OutputRow
from serving.export.inputs.base import Entry, Modality
from serving.export.job import OutputConfig


class Embedded(NamedTuple):
    """An entry's row."""

    row: OutputRow
    maps: NDArray[np.float32]
    """(M, H * W): the codes of the concepts of OutputConfig.patches on every patch."""


class Failed(NamedTuple):
    """An entry without a row, and why."""

    reason: str


Result = Embedded | Failed


class Tables(NamedTuple):
    """What a shard gives."""

    rows: Any
    """pyarrow.Table: id, source, active, norm, and as they are asked for indices and values (K
    each, ids ascending), `concepts` (the strongest with their names), `dense` (D) and `patch_ID` (H
    lists of W, row by row) of a concept."""
    quarantine: Any
    """pyarrow.Table: id, source, reason."""


def tables_of(
    entries: Sequence[Entry],
    results: Sequence[Result],
    outputs: OutputConfig,
    bundle: Bundle,
    modality: Modality,
) -> Tables:
    """Results beside their entries, in the entries' order."""
    import pyarrow

    pairs = list(zip(entries, results, strict=True))
    good = [(entry, found) for entry, found in pairs if isinstance(found, Embedded)]
    bad = [(entry, found) for entry, found in pairs if isinstance(found, Failed)]
    rows = [found.row for _, found in good]
    columns = {
        "id": pyarrow.array([entry.id for entry, _ in good], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in good], pyarrow.string()),
    }
    if outputs.sparse:
        columns["indices"] = _lists([row.indices for row in rows], np.dtype(np.uint32))
        columns["values"] = _lists([row.values for row in rows], np.dtype(np.float32))
    columns["active"] = pyarrow.array([row.active for row in rows], pyarrow.uint32())
    columns["norm"] = pyarrow.array([row.norm for row in rows], pyarrow.float32())
    if outputs.top:
        columns["concepts"] = _strongest(rows, outputs.top, bundle.concepts)
    shape = bundle.manifest.architecture
    if outputs.dense:
        columns["dense"] = _fixed([row.dense for row in rows], _width(shape, modality))
    for place, concept in enumerate(outputs.patches):
        height, width = shape.patch_grid
        flat = _fixed([found.maps[place] for _, found in good], width)
        columns[f"patch_{concept}"] = pyarrow.FixedSizeListArray.from_arrays(flat, height)
    quarantine = {
        "id": pyarrow.array([entry.id for entry, _ in bad], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in bad], pyarrow.string()),
        "reason": pyarrow.array([failed.reason for _, failed in bad], pyarrow.string()),
    }
    return Tables(pyarrow.table(columns), pyarrow.table(quarantine))


def _width(shape: Architecture, modality: Modality) -> int:
    return shape.text_dense_dim if modality == "text" else shape.dense_dim


def _fixed(arrays: Sequence[NDArray[Any]], width: int) -> Any:
    """Lists of so many, of all arrays one behind the other."""
    import pyarrow

    flat = np.concatenate(arrays) if arrays else np.zeros(0, np.float32)
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.astype(np.float32)), width)


def concept_lists(counts: Any, ids: Any, names: Sequence[str], values: Any) -> Any:
    """Lists of concepts (id, name, value), so many of each row, from those of all rows."""
    import pyarrow

    concepts = pyarrow.StructArray.from_arrays(
        [
            pyarrow.array(ids, pyarrow.uint32()),
            pyarrow.array(names, pyarrow.string()),
            pyarrow.array(values, pyarrow.float32()),
        ],
        names=["id", "name", "value"],
    )
    return pyarrow.ListArray.from_arrays(_offsets(counts), concepts)


def _strongest(rows: Sequence[OutputRow], count: int, vocabulary: ConceptVocabulary) -> Any:
    tops = [row.top(count) for row in rows]
    flat = [pair for top in tops for pair in top]
    ids, values = [concept for concept, _ in flat], [value for _, value in flat]
    names = [vocabulary.concepts[concept].name for concept in ids]
    return concept_lists([len(top) for top in tops], ids, names, values)


def _lists(rows: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    flat = np.concatenate(rows).astype(kind) if rows else np.zeros(0, kind)
    return pyarrow.ListArray.from_arrays(_offsets([len(row) for row in rows]), pyarrow.array(flat))


def _offsets(counts: Any) -> Any:
    """Where each of the lists begins, and where the last one ends."""
    import pyarrow

    return pyarrow.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
