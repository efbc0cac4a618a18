"""Recipes of adapters small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mllm_adapter.adapter_recipe import AdapterRecipe

SMALL = {
    "vocabulary": 400,
    "width": 64,
    "layers": 1,
    "heads": 1,
    "key_value_heads": 1,
    "inner": 64,
    "context": 128,
}


def stage(llm: str, steps: int, lr: float = 2e-3, muon: bool = False) -> dict[str, Any]:
    return {"llm": llm, "steps": steps, "lr": lr, "batch_size": 8, "muon": muon}


def recipe(bundle: Path, data: Path, *stages: dict[str, Any], **more: Any) -> AdapterRecipe:
    return AdapterRecipe.parse(
        {
            "name": "tiny",
            "bundle": str(bundle),
            "data": {"path": str(data), "views": 1},
            "llm": {"small": SMALL},
            "stages": list(stages),
            "run": {
                "precision": "fp32",
                "threads": 1,
                "device": "cpu",
                "log_every": 1,
                "checkpoint_every": 2,
            },
            **more,
        }
    )
