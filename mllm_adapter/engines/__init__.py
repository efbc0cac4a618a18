"""What runs the language model: the contract in base.py, one file for each engine.

This file needs no torch, so that a server without chat can read the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bundle.plugins import Plugin, Plugins

if TYPE_CHECKING:
    from mllm_adapter.engines.base import GenerationEngine

GENERATION_ENGINES: Plugins[GenerationEngine] = Plugins(
    "chat engine",
    {
        "transformers": Plugin(
            "mllm_adapter.engines.transformers_engine:TransformersEngine", "chat"
        ),
        "vllm": Plugin("mllm_adapter.engines.vllm_engine:VllmEngine", "vllm"),
    },
)
