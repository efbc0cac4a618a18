"""Folders of classes: the name of an image's folder is its caption."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Self

from training.data.data_recipe import DataError
from training.loading.sources import _reasons
from training.loading.sources._files import FileList, ListedFile, walk
from training.loading.sources._names import is_image
from training.loading.sources.base import BadPairError, Columns


class ClassFolders(FileList):
    """The images in and below the folders of a folder. `_` in a folder's name is read as a space:
    `sailing_boat/0001.jpg` has the caption `sailing boat`."""

    @classmethod
    def open(cls, path: Path, columns: Columns) -> Self:
        """See PairSource.open."""
        if not path.is_dir():
            raise DataError(f"data.path: {path.name} is not a folder")
        entries, others = [], []
        for name in walk(path):
            if not is_image(name):
                others.append(name)
                continue
            label = posixpath.basename(posixpath.dirname(name)).replace("_", " ")
            entries.append(ListedFile(name, name, label or BadPairError(_reasons.NO_CLASS)))
        if not entries:
            raise DataError(f"data.path: {path.name} holds no images")
        return cls(path, entries, others)
