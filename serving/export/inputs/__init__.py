"""What an export reads: the contract in base.py, one file for each kind of input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from serving.export.inputs.base import Input

INPUTS: Plugins[Input] = Plugins(
    "kind",
    {
        "folder": Plugin("serving.export.inputs.folder:ImageFolder", "export"),
        "webdataset": Plugin("serving.export.inputs.webdataset:Tars", "export"),
        "table": Plugin("serving.export.inputs.table:Table", "export"),
        "list": Plugin("serving.export.inputs.path_list:PathList", "export"),
    },
)

AUTO = "auto"
"""Stands for the kind that an input's name tells; see `open_input`."""
