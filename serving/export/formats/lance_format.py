"""A Lance fragment a shard; the export's folder becomes one Lance dataset.

Lance writes and reads files of this machine only: they are brought to it and back, so that an
export needs no second set of an object store's credentials.
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
from serving.storage.location import Place

_VERSION = "2.1"
"""Of Lance's file format: named, so that another library version gives the same bytes."""
_VERSIONS = "_versions"


class LanceFormat:
    """See ExportFormat. Lance has its data files in a folder `data`, as an export has."""

    extra: frozenset[str] = frozenset()
    folders: tuple[str, ...] = (_VERSIONS, "_transactions")

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See ExportFormat.files."""
        with tempfile.TemporaryDirectory() as folder:
            written = _fragments(table, folder)
            if not written:  # of no rows
                return {}
            return {
                f"{stem}.lance": (Path(folder) / "data" / written[0].files[0].path).read_bytes()
            }

    def read(
        self, data: Place, names: Sequence[str], columns: Sequence[str], rows: int
    ) -> Iterator[Any]:
        """See ExportFormat.read."""
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / name
                file.write_bytes(data.at(name).read())
                reader = LanceFileReader(str(file), columns=list(columns))
                for batch in reader.read_all(batch_size=rows).to_batches():
                    yield batch.select(list(columns))

    def finish(self, data: Place, schema: Any, shards: Sequence[ShardFiles]) -> None:
        """Commits a version of the dataset that has all fragments, unless the last one has them."""
        root = data.parent
        with tempfile.TemporaryDirectory() as folder:
            before = {path for path, _ in root.at(_VERSIONS).walk()}
            for path in before:
                _write(Path(folder) / _VERSIONS / path, root.at(f"{_VERSIONS}/{path}").read())
            if _names(folder) == [name for shard in shards for name in shard.sizes]:
                return
            operation = lance.LanceOperation.Overwrite(schema, _all(schema, shards))
            lance.LanceDataset.commit(folder, operation)
            for file in sorted(Path(folder).rglob("*")):  # what was done before what says so
                if file.is_file() and file.name not in before:
                    root.at(str(file.relative_to(folder))).write(file.read_bytes())


def _names(folder: str) -> list[str]:
    """Data files of the last version of a dataset; none where there is no whole version."""
    try:
        found = lance.dataset(folder).get_fragments()
    except (OSError, ValueError):
        return []
    return [file.path for fragment in found for file in fragment.data_files()]


def _all(schema: Any, shards: Sequence[ShardFiles]) -> list[Any]:
    """The fragments of an export."""
    row = pyarrow.table([pyarrow.nulls(1, field.type) for field in schema], schema=schema)
    with tempfile.TemporaryDirectory() as folder:
        like = _fragments(row, folder)[0].files[0]
    fragments: list[Any] = []
    for shard in shards:
        for name, size in shard.sizes.items():
            file = DataFile(
                name,
                like.fields,
                like.column_indices,
                like.file_major_version,
                like.file_minor_version,
                size,
            )
            fragments.append(
                FragmentMetadata(id=len(fragments), files=[file], physical_rows=shard.rows)
            )
    return fragments


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)


def _fragments(table: Any, folder: str) -> list[Any]:
    found: list[Any] = write_fragments(
        table, folder, mode="create", data_storage_version=_VERSION, max_rows_per_file=2**40
    )
    return found
