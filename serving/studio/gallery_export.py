"""A gallery that is exported: its codes are there already, for the model that made the export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bundle.plugins import PluginError
from serving.core.errors import StartupError
from serving.engines.outputs import OutputRow
from serving.export.export_reader import ExportReader
from serving.export.inputs.base import InputEntry
from serving.export.job import ExportError
from serving.index.export_rows import ExportRows
from serving.storage.file_names import unspell
from serving.storage.location import LocationError, local_fingerprint
from serving.studio.gallery_pictures import MAX_PICTURES, GalleryPicture, PictureFolder, media_type
from serving.studio.gallery_reader import ExportedGallery

COLUMNS = ["id", "indices", "values", "active", "norm"]

log = logging.getLogger(__name__)


def read_export(location: str, folder: str) -> ExportedGallery:
    """The pictures in `folder` that are as the export in `location` read them, and their codes.
    Raises StartupError."""
    root = Path(folder)
    try:
        export = ExportRows.open(location).export
        _refuse_unfit(export)
        found = [(_picture(root, entry), code) for entry, code in _coded(export)]
    except (ExportError, LocationError, PluginError) as error:
        raise StartupError(f"gallery_export: {error}") from None
    shown = [(picture, code) for picture, code in found if picture is not None]
    if not shown:
        raise StartupError("gallery_export: gallery has none of its pictures as they were exported")
    if missing := len(found) - len(shown):
        log.warning("gallery: %d exported pictures are not as they were, and left out", missing)
    pictures = tuple(picture for picture, _ in shown)
    return ExportedGallery(
        folder=PictureFolder(title=root.resolve().name, pictures=pictures),
        codes={number: code for number, (_, code) in enumerate(shown)},
        model=export.job.model,
        bundle=export.job.bundle,
    )


def _refuse_unfit(export: ExportReader) -> None:
    job = export.job
    if job.modality != "image":
        raise ExportError("holds texts, not images")
    if not export.holds_codes:
        raise ExportError("holds no codes")
    if job.outputs.framing is not None:
        raise ExportError(f"made with --framing {job.outputs.framing}, not the model's own")
    if export.rows > MAX_PICTURES:
        raise ExportError(f"holds more than {MAX_PICTURES:,} pictures")


def _coded(export: ExportReader) -> Iterator[tuple[InputEntry, OutputRow]]:
    """The live entries that have a row, as they were exported, and their codes."""
    for receipt in export.receipts:
        entries = {entry.id: entry for entry in export.generations.shard(receipt.shard).entries}
        for batch in export.batches(receipt, COLUMNS):
            for row in batch.to_pylist():
                yield entries[row["id"]], _code(row)


def _code(row: Mapping[str, Any]) -> OutputRow:
    return OutputRow(
        indices=np.array(row["indices"], np.uint32),
        values=np.array(row["values"], np.float32),
        active=row["active"],
        norm=row["norm"],
        dense=np.zeros(0, np.float32),
        patches=None,
    )


def _picture(root: Path, entry: InputEntry) -> GalleryPicture | None:
    """The file of an entry; None where it is not as it was, or is nothing for a browser."""
    source = PurePosixPath(unspell(entry.source))
    kind = media_type(source.name)
    if kind is None or source.is_absolute() or ".." in source.parts:
        return None
    path = root / source
    try:
        if entry.fingerprint not in ("", local_fingerprint(path.stat())):
            return None
    except (OSError, ValueError):
        return None
    return GalleryPicture(name=entry.source, path=path, media_type=kind)
