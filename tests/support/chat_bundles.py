"""Tiny bundles with chat: a random projector and a random language model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch

from bundle.manifest import Manifest
from bundle.verify import describe_files
from mllm_adapter.model.adapter import AdapterConfig, WordDefaults, write_adapter
from mllm_adapter.model.projector import Projector
from tests.mllm_adapter.llms import tiny_llm
from tests.support.tiny_model import CONCEPTS

PATCHES, WIDTH = 16, 64
WORDS = WordDefaults(top=4, strength=1.5)


def add_adapter(bundle: Path, target: Path, *, concepts: int = CONCEPTS) -> Path:
    """A copy of a tiny bundle at `target`, with an adapter and its language model beside it."""
    shutil.copytree(bundle, target)
    torch.manual_seed(3)
    projector = Projector(concepts, WIDTH)
    with torch.no_grad():
        projector.rows.normal_(std=0.5)
    model, tokenizer = tiny_llm()
    config = AdapterConfig(
        concepts=concepts,
        patches=PATCHES,
        width=WIDTH,
        backbone="tiny 1",
        system="Look.",
        words=WORDS,
    )
    folder = target / "adapter"
    write_adapter(folder, config, projector)
    model.save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm", save_jinja_files=False)
    manifest = Manifest.from_json((target / "manifest.json").read_text())
    changed = dataclasses.replace(manifest, version=target.name, files=describe_files(target))
    (target / "manifest.json").write_text(changed.to_json())
    return target
