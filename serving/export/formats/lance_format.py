"""One Lance fragment for each shard; the export's folder becomes one Lance dataset.

Lance reaches object stores with credentials of its own. An export would then need two sets of them,
so files are copied from and to this machine, and Lance only sees those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import pyarrow
from lance.file import LanceFileReader
from lance.fragment import DataFile, DeletionFile, FragmentMetadata, write_fragments
from pyarrow import ipc

from bundle.atomic import work_directory
from serving.export.formats.base import ShardFiles
from serving.storage.location import Location

FILE_VERSION = "2.1"
"""The version of Lance's file format. It is fixed, so that another version of the library gives the
same bytes."""
VERSIONS = "_versions"
"""The folder of a dataset's manifests."""
DELETIONS = "_deletions"
DELETED = pyarrow.schema([pyarrow.field("row_id", pyarrow.uint32(), nullable=False)])
"""A file of deleted rows: their numbers in the fragment."""


class LanceFormat:
    """See ExportFormat. A Lance dataset has its data files in a folder `data`, as an export has."""

    extra: frozenset[str] = frozenset()
    marks_ended = True

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See ExportFormat.files."""
        with work_directory() as folder:
            fragments = _write_fragments(table, str(folder))
            if not fragments:  # the table has no rows
                return {}
            file = folder / "data" / fragments[0].files[0].path
            return {f"{stem}.lance": file.read_bytes()}

    def read(
        self, data: Location, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """See ExportFormat.read."""
        for name in names:
            with work_directory() as folder:
                file = folder / name
                file.write_bytes(data.at(name).read())
                reader = LanceFileReader(str(file), columns=list(columns))
                for batch in reader.read_all(batch_size=rows).to_batches():
                    yield batch.select(list(columns))

    def finish(self, data: Location, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """See ExportFormat.finish. Commits a version of the dataset that has all fragments, without
        the rows that were ended, unless the last version is that already."""
        root = data.parent
        with _manifests(root) as folder:
            if _live_rows(folder) == _expected(shards):
                return
            before = _files(folder)
            operation = lance.LanceOperation.Overwrite(schema, _fragments(schema, shards))
            dataset = lance.LanceDataset.commit(folder, operation)
            _delete(folder, dataset, shards)
            # Sorted: what a manifest refers to comes before it.
            for path in sorted(_files(folder) - before, key=lambda path: (VERSIONS in path, path)):
                root.at(path).write((Path(folder) / path).read_bytes())

    def find_problems(self, data: Location, shards: Sequence[ShardFiles]) -> Iterator[str]:
        """See ExportFormat.find_problems."""
        root = data.parent
        with _manifests(root) as folder:
            if _live_rows(folder) != _expected(shards):
                yield f"{VERSIONS}: no version of the dataset has these shards"
                return
            for fragment in lance.dataset(folder).get_fragments():
                path = _deletion_path(fragment.metadata)
                if path and not root.at(path).exists():
                    yield f"{path}: missing"


@contextmanager
def _manifests(root: Location) -> Iterator[str]:
    """A folder of this machine with a dataset's manifests alone."""
    with work_directory() as folder:
        for path, _ in root.at(VERSIONS).walk():
            _write(folder / VERSIONS / path, root.at(f"{VERSIONS}/{path}").read())
        yield str(folder)


def _files(folder: str) -> set[str]:
    """All files in and below a folder."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in paths}


def _expected(shards: Sequence[ShardFiles]) -> list[tuple[str, int]]:
    """The data files of shards, and how many rows of each were ended."""
    return [(name, len(shard.ended)) for shard in shards for name in shard.sizes]


def _live_rows(folder: str) -> list[tuple[str, int]]:
    """Data files of the last version of a dataset and how many rows of each are deleted; empty
    when there is no whole version."""
    try:
        fragments = lance.dataset(folder).get_fragments()
        return [
            (file.path, fragment.num_deletions)
            for fragment in fragments
            for file in fragment.data_files()
        ]
    except (OSError, ValueError):
        return []


def _delete(folder: str, dataset: Any, shards: Sequence[ShardFiles]) -> None:
    """Commits one more version, without the rows that were ended."""
    ended = {name: shard.ended for shard in shards for name in shard.sizes if shard.ended}
    updated: list[Any] = []
    for fragment in dataset.get_fragments():
        rows = ended.get(fragment.data_files()[0].path)
        if rows is None:
            continue
        deletion = DeletionFile(dataset.version, 0, "array", len(rows), None)
        metadata = dataclasses.replace(fragment.metadata, deletion_file=deletion)
        stream = pyarrow.BufferOutputStream()
        with ipc.new_file(stream, DELETED) as writer:
            writer.write_table(pyarrow.table([pyarrow.array(rows, pyarrow.uint32())], DELETED))
        _write(Path(folder) / _deletion_path(metadata), stream.getvalue().to_pybytes())
        updated.append(metadata)
    if updated:
        operation = lance.LanceOperation.Delete(updated, [], "ended by an update")
        lance.LanceDataset.commit(folder, operation, read_version=dataset.version)


def _deletion_path(fragment: FragmentMetadata) -> str:
    """The file of a fragment's deleted rows; empty when it has none."""
    deletion = fragment.deletion_file
    if deletion is None:
        return ""
    return f"{DELETIONS}/{fragment.id}-{deletion.read_version}-{deletion.id}.arrow"


def _fragments(schema: Any, shards: Sequence[ShardFiles]) -> list[Any]:
    """The fragments of all shards, described without reading their files: how columns lie in a file
    depends on the schema alone, so a file of one row tells it for all."""
    row = pyarrow.table([pyarrow.nulls(1, field.type) for field in schema], schema=schema)
    with work_directory() as folder:
        sample = _write_fragments(row, str(folder))[0].files[0]
    fragments: list[Any] = []
    for shard in shards:
        for name, size in shard.sizes.items():
            file = DataFile(
                name,
                sample.fields,
                sample.column_indices,
                sample.file_major_version,
                sample.file_minor_version,
                size,
            )
            fragments.append(
                FragmentMetadata(id=len(fragments), files=[file], physical_rows=shard.rows)
            )
    return fragments


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)


def _write_fragments(table: Any, folder: str) -> list[Any]:
    """Writes a table as one fragment, or none when it has no rows."""
    fragments: list[Any] = write_fragments(
        table, folder, mode="create", data_storage_version=FILE_VERSION, max_rows_per_file=2**40
    )
    return fragments
