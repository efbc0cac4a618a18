"""What an export writes: the contract in base.py, one file for each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.export.formats.base import ExportFormat

FORMATS: Plugins[ExportFormat] = Plugins(
    "format",
    {
        "parquet": Plugin("serving.export.formats.parquet_format:ParquetFormat", "export"),
        "zarr": Plugin("serving.export.formats.zarr_format:ZarrFormat", "zarr"),
        "lance": Plugin("serving.export.formats.lance_format:LanceFormat", "lance"),
    },
)
