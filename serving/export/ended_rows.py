"""Rows that an update ended: they stay in their files, and no reader counts them any more."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from serving.export.formats.parquet_format import parquet_bytes
from serving.export.generations import Generations
from serving.export.job import ExportError
from serving.storage.location import Location

ENDED = "ended"
GONE, REPLACED = "gone", "replaced"
"""Reasons: the entry is no longer in the input, or a later generation has it again."""
_SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("generation", pyarrow.uint32()),
        ("shard", pyarrow.uint32()),
        ("update", pyarrow.uint32()),
        ("reason", pyarrow.string()),
    ]
)


class EndedRow(NamedTuple):
    """One entry of a generation, in a row or in quarantine, that an update ended."""

    id: str
    generation: int
    shard: int
    update: int
    """The generation that ended it."""
    reason: str


def write_ended(output: Location, update: int, ended: Sequence[EndedRow]) -> str:
    """Writes what an update ended; gives the file's sha256, empty when there is nothing."""
    if not ended:
        return ""
    columns: Any = dict(zip(_SCHEMA.names, zip(*ended, strict=True), strict=True))
    data = parquet_bytes(pyarrow.table(columns, schema=_SCHEMA))
    _file(output, update).write(data)
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class EndedRows:
    """All that the updates of an export ended, by shard."""

    table: Any
    """pyarrow.Table of the columns of EndedRow."""
    by_shard: dict[int, Any]
    """Ids as pyarrow.Array."""

    @classmethod
    def read(cls, generations: Generations) -> EndedRows:
        """Raises ExportError for a file that is missing or altered."""
        tables = [_SCHEMA.empty_table()]
        for plan in generations.plans:
            if plan.job.ended:
                tables.append(_read(generations.output, plan.job.generation, plan.job.ended))
        table = pyarrow.concat_tables(tables)
        groups = table.select(["shard", "id"]).group_by("shard", use_threads=False)
        by_shard = groups.aggregate([("id", "list")])
        shards, ids = by_shard["shard"].to_pylist(), by_shard["id_list"].combine_chunks()
        return cls(table, {shard: ids[row].values for row, shard in enumerate(shards)})

    def count(self, shard: int) -> int:
        """Entries of a shard that were ended."""
        return len(self.by_shard.get(shard, ()))

    def live(self, shard: int, batch: Any) -> Any:
        """The rows of a pyarrow.RecordBatch of a shard, with a column `id`, that were not ended."""
        ended = self.by_shard.get(shard)
        if ended is None:
            return batch
        return batch.filter(compute.invert(compute.is_in(batch["id"], value_set=ended)))


def ended_file_problem(output: Location, update: int, sha256: str) -> str:
    """What is wrong with the file of what an update ended; empty when it is whole."""
    try:
        data = _file(output, update).read()
    except OSError:
        return "missing"
    return "" if hashlib.sha256(data).hexdigest() == sha256 else "altered"


def ended_name(update: int) -> str:
    """The name of the file of what an update ended, in the export's folder."""
    return f"{ENDED}/part-{update:06d}.parquet"


def _read(output: Location, update: int, sha256: str) -> Any:
    problem = ended_file_problem(output, update, sha256)
    if problem:
        raise ExportError(f"{ended_name(update)}: {problem}; export to a new folder")
    data = _file(output, update).read()
    # A thread of Arrow's that frees a buffer of Python's at exit aborts the process.
    return parquet.read_table(io.BytesIO(data), schema=_SCHEMA, use_threads=False)


def _file(output: Location, update: int) -> Location:
    return output.at(ended_name(update))
