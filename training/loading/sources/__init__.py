"""Where pairs of images and captions come from: the contract in base.py, one file for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from training.loading.sources.base import PairSource

PAIR_SOURCES: Plugins[PairSource] = Plugins(
    "data.kind",
    {
        "webdataset": Plugin("training.loading.sources.webdataset:TarPairs", "train"),
        "list": Plugin("training.loading.sources.pair_list:ListedPairs", "train"),
        "table": Plugin("training.loading.sources.table:TablePairs", "train"),
        "huggingface": Plugin("training.loading.sources.huggingface:SavedDataset", "train"),
        "files": Plugin("training.loading.sources.files:FilePairs", "train"),
        "classes": Plugin("training.loading.sources.classes:ClassFolders", "train"),
    },
)

AUTO = "auto"
"""Stands for the kind that the data's files tell; see detection.py."""
