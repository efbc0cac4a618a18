"""Where models of other libraries come from: the contract in base.py, one file for each source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from training.importing.base import ModelSource

MODEL_SOURCES: Plugins[ModelSource] = Plugins(
    "SOURCE",
    {
        "hf": Plugin("training.importing.hf_source:HFSource", "import"),
        "open_clip": Plugin("training.importing.open_clip_source:OpenClipSource", "import"),
        "run": Plugin("training.importing.run_source:RunSource", "train"),
    },
)
"""By what stands before the colon of SOURCE."""
