"""Rows of a shard as Arrow tables. K active concepts of a row, D CLIP width, M concepts with maps,
H by W the grid of patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray

from bundle.architecture import Architecture
from bundle.concepts import ConceptVocabulary
from bundle.store import Bundle
from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.engines.outputs import OutputRow
from serving.export.formats._arrow_lists import concept_column, fixed_size_column, list_column
from serving.export.inputs.base import InputEntry, Modality
from serving.export.job import OutputConfig


class ExportRow(NamedTuple):
    """What the model gave for an entry."""

    output: OutputRow
    maps: NDArray[np.float32]
    """(M, H * W): the codes of the concepts of OutputConfig.patches on every patch."""
    coverage: ItemCoverage = NO_COVERAGE
    """What the model read of the entry."""


class FailedEntry(NamedTuple):
    """An entry without a row, and why."""

    reason: str


EntryResult = ExportRow | FailedEntry


class ShardTables(NamedTuple):
    """What a shard's files are made of."""

    rows: Any
    """pyarrow.Table with id, source, generation, active (not of a dense model), norm, what the
    model read of the entry, and what OutputConfig chooses: indices and values (K each, ids
    ascending), concepts (the strongest with their names), dense (D), and for each concept with a
    map patch_ID (H lists of W, row by row)."""
    quarantine: Any
    """pyarrow.Table with id, source, generation, reason."""


def build_tables(
    entries: Sequence[InputEntry],
    results: Sequence[EntryResult],
    outputs: OutputConfig,
    bundle: Bundle,
    modality: Modality,
    generation: int = 0,
) -> ShardTables:
    """Both tables of a shard, in the order of its entries. There is one result for each entry."""
    pairs = list(zip(entries, results, strict=True))
    good = [(entry, result) for entry, result in pairs if isinstance(result, ExportRow)]
    failed = [(entry, result) for entry, result in pairs if isinstance(result, FailedEntry)]
    rows = [result.output for _, result in good]
    columns = {
        "id": pyarrow.array([entry.id for entry, _ in good], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in good], pyarrow.string()),
        "generation": pyarrow.array([generation] * len(good), pyarrow.uint32()),
    }
    if outputs.sparse:
        columns["indices"] = list_column([row.indices for row in rows], np.dtype(np.uint32))
        columns["values"] = list_column([row.values for row in rows], np.dtype(np.float32))
    if bundle.is_sparse:
        columns["active"] = pyarrow.array([row.active for row in rows], pyarrow.uint32())
    columns["norm"] = pyarrow.array([row.norm for row in rows], pyarrow.float32())
    columns |= _coverage([result.coverage for _, result in good], modality)
    if outputs.top:
        columns["concepts"] = _top_concepts(rows, outputs.top, bundle.concepts)
    architecture = bundle.manifest.architecture
    if outputs.dense:
        width = _dense_width(architecture, modality)
        columns["dense"] = fixed_size_column([row.dense for row in rows], width)
    height, width = architecture.grid
    for number, concept in enumerate(outputs.patches):
        lines = fixed_size_column([result.maps[number] for _, result in good], width)
        columns[f"patch_{concept}"] = pyarrow.FixedSizeListArray.from_arrays(lines, height)
    quarantine = {
        "id": pyarrow.array([entry.id for entry, _ in failed], pyarrow.string()),
        "source": pyarrow.array([entry.source for entry, _ in failed], pyarrow.string()),
        "generation": pyarrow.array([generation] * len(failed), pyarrow.uint32()),
        "reason": pyarrow.array([result.reason for _, result in failed], pyarrow.string()),
    }
    return ShardTables(pyarrow.table(columns), pyarrow.table(quarantine))


def _coverage(read: Sequence[ItemCoverage], modality: Modality) -> dict[str, Any]:
    """Columns that say what the model read of each entry."""
    if modality == "text":
        return {
            "tokens": pyarrow.array([item.tokens for item in read], pyarrow.uint32()),
            "truncated": pyarrow.array([item.truncated for item in read], pyarrow.bool_()),
            "unknown_words": pyarrow.array(
                [" ".join(item.unknown_words) for item in read], pyarrow.string()
            ),
        }
    grounds = ["" if item.ground is None else f"#{item.ground:06x}" for item in read]
    return {
        "framing": pyarrow.array([item.framing or "" for item in read], pyarrow.string()),
        "image_share": pyarrow.array([item.image_share for item in read], pyarrow.float32()),
        "ground": pyarrow.array(grounds, pyarrow.string()),
        "frames": pyarrow.array([item.frames for item in read], pyarrow.uint32()),
    }


def _dense_width(architecture: Architecture, modality: Modality) -> int:
    return architecture.text_dense_dim if modality == "text" else architecture.dense_dim


def _top_concepts(rows: Sequence[OutputRow], count: int, vocabulary: ConceptVocabulary) -> Any:
    tops = [row.top(count) for row in rows]
    flat = [pair for top in tops for pair in top]
    ids, values = [concept for concept, _ in flat], [value for _, value in flat]
    names = [vocabulary.concepts[concept].name for concept in ids]
    return concept_column([len(top) for top in tops], ids, names, values)
