"""An export as a door: the cases as cells of a table."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.dataset as dataset
from pyarrow import parquet

from sparseclip.results import Coverage
from tests.cases.door_contract import Answers, DoorAnswer, OpenDoors, output_values
from tests.serving.export.command import options, run


def export_images(doors: OpenDoors, images: Sequence[bytes]) -> Answers:
    """The images as a column of bytes."""
    rows = _exported(doors, list(images))
    return [
        DoorAnswer(
            error=row.get("error", ""),
            values=_values(row),
            coverage=None
            if "error" in row
            else Coverage(
                framing=row["framing"] or None,
                image_share=row["image_share"],
                ground=row["ground"] or None,
                frames=row["frames"],
            ),
        )
        for row in rows
    ]


def export_texts(doors: OpenDoors, texts: Sequence[object]) -> Answers:
    """The texts as a column of strings."""
    rows = _exported(doors, [str(text) for text in texts])
    return [
        DoorAnswer(
            error=row.get("error", ""),
            values=_values(row),
            coverage=None
            if "error" in row
            else Coverage(
                tokens=row["tokens"],
                truncated=row["truncated"],
                unknown_words=tuple(row["unknown_words"].split()),
            ),
        )
        for row in rows
    ]


def _values(row: dict[str, Any]) -> dict[int | str, float]:
    return output_values(row.get("indices"), row.get("values"), row.get("dense"))


def _exported(doors: OpenDoors, cells: list[Any]) -> list[dict[str, Any]]:
    """The row of each cell, or its error."""
    source, output = doors.folder / "cells.parquet", doors.folder / "codes"
    parquet.write_table(pyarrow.table({"cell": cells}), source)
    run(source, output, "--column", "cell", *options(doors.bundle, rows=len(cells)))
    rows = dataset.dataset(output / "data").to_table().to_pylist()
    quarantine = output / "quarantine"  # not there where all is well
    failed = dataset.dataset(quarantine).to_table().to_pylist() if quarantine.exists() else []
    shutil.rmtree(output)
    found = {row["id"]: row for row in rows}
    found |= {row["id"]: {"error": f"INVALID_ARGUMENT: {row['reason']}"} for row in failed}
    return [found[f"cells.parquet:{number}"] for number in range(len(cells))]
