"""A data set that Hugging Face's library `datasets` wrote with `save_to_disk`."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Self

from training.data.data_recipe import DataError
from training.loading.sources._files import read_json
from training.loading.sources._names import STATE_FILE
from training.loading.sources.base import Columns
from training.loading.sources.table import TablePairs


class SavedDataset(TablePairs):
    """The Arrow files that the data set's state names, in its order."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open."""
        state = read_json(path / STATE_FILE)
        files = state.get("_data_files")
        if not isinstance(files, list):
            raise DataError(f"data.path: {path.name}/{STATE_FILE} names no data files")
        names = [str(file.get("filename")) if isinstance(file, dict) else "" for file in files]
        if any(not name or name != posixpath.basename(name) for name in names):
            raise DataError(f"data.path: {path.name}/{STATE_FILE} names a file of another folder")
        return cls(path, names, columns)
