"""Rows of a shard as Arrow tables. K active concepts of a row, D CLIP width, M concepts with maps,
H by W the grid of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray

from bundle.concepts import ConceptVocabulary
from bundle.manifest import Architecture
from bundle.store import Bundle
from serving.engines.outputs import OutputRow
from serving.export.formats.arrow_lists import (
    concept_column,
    fixed_size_column,
    list_column,
)
from serving.export.inputs.base import InputEntry, Modality
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
    entries: Sequence[InputEntry],
    results: Sequence[Result],
    outputs: OutputConfig,
    bundle: Bundle,
    modality: Modality,
) -> Tables:
    """Results beside their entries, in the entries' order."""
    pairs = list(zip(entries, results, strict=True))
    good = [(entry, found) for entry, found in pairs if isinstance(found, Embedded)]
    bad = [(entry, found) for entry, found in pairs if isinstance(found, Failed)]
    rows = [found.row for _, found in good]
    columns = {
        "id": pyarrow.array([entry.id for entry, _ in good], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in good], pyarrow.string()),
    }
    if outputs.sparse:
        columns["indices"] = list_column([row.indices for row in rows], np.dtype(np.uint32))
        columns["values"] = list_column([row.values for row in rows], np.dtype(np.float32))
    columns["active"] = pyarrow.array([row.active for row in rows], pyarrow.uint32())
    columns["norm"] = pyarrow.array([row.norm for row in rows], pyarrow.float32())
    if outputs.top:
        columns["concepts"] = _strongest(rows, outputs.top, bundle.concepts)
    shape = bundle.manifest.architecture
    if outputs.dense:
        columns["dense"] = fixed_size_column([row.dense for row in rows], _width(shape, modality))
    for place, concept in enumerate(outputs.patches):
        height, width = shape.patch_grid
        flat = fixed_size_column([found.maps[place] for _, found in good], width)
        columns[f"patch_{concept}"] = pyarrow.FixedSizeListArray.from_arrays(flat, height)
    quarantine = {
        "id": pyarrow.array([entry.id for entry, _ in bad], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in bad], pyarrow.string()),
        "reason": pyarrow.array([failed.reason for _, failed in bad], pyarrow.string()),
    }
    return Tables(pyarrow.table(columns), pyarrow.table(quarantine))


def _width(shape: Architecture, modality: Modality) -> int:
    return shape.text_dense_dim if modality == "text" else shape.dense_dim


def _strongest(rows: Sequence[OutputRow], count: int, vocabulary: ConceptVocabulary) -> Any:
    tops = [row.top(count) for row in rows]
    flat = [pair for top in tops for pair in top]
    ids, values = [concept for concept, _ in flat], [value for _, value in flat]
    names = [vocabulary.concepts[concept].name for concept in ids]
    return concept_column([len(top) for top in tops], ids, names, values)
