"""A Lance fragment a shard; the export's folder becomes one Lance dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow
from lance.fragment import DataFile, FragmentMetadata, write_fragments

from serving.export.formats.base import Part
from serving.export.place import Place

_VERSION = "2.1"
"""Of Lance's file format: named, so that another library version gives the same bytes."""


class Lance:
    """See Format. Lance has its data files in a folder `data`, as an export has."""

    extra: frozenset[str] = frozenset()

    def files(self, table: Any, stem: str) -> dict[str, bytes]:
        """See Format.files."""
        with tempfile.TemporaryDirectory() as folder:
            written = _fragments(table, folder)
            if not written:  # of no rows
                return {}
            return {
                f"{stem}.lance": (Path(folder) / "data" / written[0].files[0].path).read_bytes()
            }

    def finish(self, data: Place, schema: Any, parts: Sequence[Part]) -> None:
        """Commits a version of the dataset that has all fragments, unless the last one has them."""
        root = data.parent
        location = root.fs.unstrip_protocol(root.path)
        row = pyarrow.table([pyarrow.nulls(1, field.type) for field in schema], schema=schema)
        with tempfile.TemporaryDirectory() as folder:
            like = _fragments(row, folder)[0].files[0]
        fragments: list[Any] = []
        for part in parts:
            for name, size in part.files:
                file = DataFile(
                    name,
                    like.fields,
                    like.column_indices,
                    like.file_major_version,
                    like.file_minor_version,
                    size,
                )
                fragments.append(
                    FragmentMetadata(id=len(fragments), files=[file], physical_rows=part.rows)
                )
        if root.at("_versions").exists():
            found = lance.dataset(location).get_fragments()
            names = [file.path for fragment in found for file in fragment.data_files()]
            if names == [fragment.files[0].path for fragment in fragments]:
                return
        lance.LanceDataset.commit(location, lance.LanceOperation.Overwrite(schema, fragments))


def _fragments(table: Any, folder: str) -> list[Any]:
    found: list[Any] = write_fragments(
        table, folder, mode="create", data_storage_version=_VERSION, max_rows_per_file=2**40
    )
    return found
