"""Edits that make of a directory of Hugging Face another one, as people have them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.importing.base import ImportedModel, SourceOptions
from training.importing.hf_source import HFSource

Edit = Callable[[Path], None]


def load(path: Path) -> ImportedModel:
    return HFSource().load(str(path), SourceOptions())


def change(name: str, **fields: Any) -> Edit:
    """Sets fields of a JSON file; `a__b` is the field b of the object a."""

    def edit(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text()) if path.exists() else {}
        for field, value in fields.items():
            *outer, last = field.split("__")
            target = data
            for key in outer:
                target = target[key]
            target[last] = value
        path.write_text(json.dumps(data))

    return edit


def drop(*names: str) -> Edit:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def replace(name: str, content: bytes) -> Edit:
    return lambda folder: bool((folder / name).write_bytes(content)) and None


def tensors(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Edit:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        edit(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def processor(**fields: Any) -> Edit:
    inner = {f"image_processor__{name}": value for name, value in fields.items()}
    return change("processor_config.json", **inner)


def rename(name: str, other: str) -> Edit:
    return lambda folder: (folder / name).rename(folder / other) and None


def steps(*edits: Edit) -> Edit:
    def edit(folder: Path) -> None:
        for step in edits:
            step(folder)

    return edit


def tokenizer_of(family: str) -> Edit:
    def edit(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder.parent / family / name, folder / name)

    return edit


INDEX = "model.safetensors.index.json"
