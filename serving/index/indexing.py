"""An export into a database: what is new or changed goes in, what is gone goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from serving.index.databases.base import (
    Database,
    IndexRow,
    SearchableDatabase,
    export_of,
    is_blank,
)
from serving.index.export_rows import ExportRows

ROWS_PER_CALL = 500
"""Rows of one call of a database."""
MAX_SAMPLES = 3
"""Ids of other exports' rows that are named."""


@dataclass(kw_only=True)
class IndexChanges:
    """What became of the rows of an export."""

    new: int = 0
    changed: int = 0
    kept: int = 0
    """Rows that the database had as they are."""
    removed: int = 0
    blank: int = 0
    """Rows on which no concept fires; no query can find them."""
    foreign: int = 0
    """Rows that were left out, because another export has rows of the same ids there."""
    samples: list[str] = field(default_factory=list)
    """Some ids of these."""


def index_rows(
    rows: ExportRows, database: Database, on_rows: Callable[[int], None] = lambda rows: None
) -> IndexChanges:
    """Makes a database hold the live rows of an export, and no row that it ended. Rows of other
    exports stay as they are. Killed at any moment and run again, it ends the same.

    `on_rows` is called with the number of rows of every batch that is done. Raises DatabaseError.
    """
    changes, ended = IndexChanges(), rows.ended_ids
    database.prepare(rows.origin, rows.export_name)
    for batch in rows.batches(ROWS_PER_CALL):
        ended.difference_update(row.id for row in batch)
        load = _to_load(batch, database, changes)
        if load:
            database.load(load)
        on_rows(len(batch))
    gone = sorted(ended)
    for first in range(0, len(gone), ROWS_PER_CALL):
        own = ids = gone[first : first + ROWS_PER_CALL]
        if isinstance(database, SearchableDatabase):
            stamps = database.stamps(ids)
            own = [id for id, stamp in stamps.items() if export_of(stamp) == rows.export_name]
        if own:
            database.remove(own)
        changes.removed += len(own)
    database.finish()
    return changes


def _to_load(batch: list[IndexRow], database: Database, changes: IndexChanges) -> list[IndexRow]:
    """The rows of a batch that the database does not hold as they are, without those whose ids are
    another export's."""
    changes.blank += sum(is_blank(row.vector) for row in batch)
    if not isinstance(database, SearchableDatabase):  # nobody can ask what it holds
        changes.new += len(batch)
        return batch
    stamps, load = database.stamps([row.id for row in batch]), list[IndexRow]()
    for row in batch:
        stamp = stamps.get(row.id)
        if stamp == row.stamp:
            changes.kept += 1
        elif stamp and export_of(stamp) != export_of(row.stamp):
            changes.foreign += 1
            changes.samples = [*changes.samples, row.id][:MAX_SAMPLES]
        else:
            changes.new += stamp is None
            changes.changed += stamp is not None
            load.append(row)
    return load
