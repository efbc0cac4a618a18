"""One Lance fragment for each shard; the export's folder becomes one Lance dataset.

Lance reaches object stores with credentials of its own. An export would then need two sets of them,
so files are copied from and to this machine, and Lance only sees those.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow
from lance.file import LanceFileReader
from lance.fragment import DataFile, FragmentMetadata, write_fragments

from serving.export.formats.base import ShardFiles
from serving.storage.location import Location

FILE_VERSION = "2.1"
"""The version of Lance's file format. It is fixed, so that another version of the library gives the
same bytes."""
VERSIONS = "_versions"
"""The folder of a dataset's manifests."""


class LanceFormat:
    """See ExportFormat. A Lance dataset has its data files in a folder `data`, as an export has."""

    extra: frozenset[str] = frozenset()
    folders: tuple[str, ...] = (VERSIONS, "_transactions")

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See ExportFormat.files."""
        with tempfile.TemporaryDirectory() as folder:
            fragments = _write_fragments(table, folder)
            if not fragments:  # the table has no rows
                return {}
            file = Path(folder) / "data" / fragments[0].files[0].path
            return {f"{stem}.lance": file.read_bytes()}

    def read(
        self, data: Location, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """See ExportFormat.read."""
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / name
                file.write_bytes(data.at(name).read())
                reader = LanceFileReader(str(file), columns=list(columns))
                for batch in reader.read_all(batch_size=rows).to_batches():
                    yield batch.select(list(columns))

    def finish(self, data: Location, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """See ExportFormat.finish. Commits a version of the dataset that has all fragments, unless
        the last version has them already."""
        root = data.parent
        with tempfile.TemporaryDirectory() as folder:
            manifests = {path for path, _ in root.at(VERSIONS).walk()}
            for path in manifests:
                _write(Path(folder) / VERSIONS / path, root.at(f"{VERSIONS}/{path}").read())
            if _data_files(folder) == [name for shard in shards for name in shard.sizes]:
                return
            operation = lance.LanceOperation.Overwrite(schema, _fragments(schema, shards))
            lance.LanceDataset.commit(folder, operation)
            # Sorted: the transaction first, then the manifest that refers to it.
            for file in sorted(Path(folder).rglob("*")):
                if file.is_file() and file.name not in manifests:
                    root.at(str(file.relative_to(folder))).write(file.read_bytes())


def _data_files(folder: str) -> list[str]:
    """Data files of the last version of a dataset; empty when there is no whole version."""
    try:
        fragments = lance.dataset(folder).get_fragments()
    except (OSError, ValueError):
        return []
    return [file.path for fragment in fragments for file in fragment.data_files()]


def _fragments(schema: Any, shards: Sequence[ShardFiles]) -> list[Any]:
    """The fragments of all shards, described without reading their files: how columns lie in a file
    depends on the schema alone, so a file of one row tells it for all."""
    row = pyarrow.table([pyarrow.nulls(1, field.type) for field in schema], schema=schema)
    with tempfile.TemporaryDirectory() as folder:
        sample = _write_fragments(row, folder)[0].files[0]
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
