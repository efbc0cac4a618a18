"""Generation engines run the language model: base.py is their contract, each has its own file.

Importing this file needs no torch, so that a server without chat can check a name.
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
