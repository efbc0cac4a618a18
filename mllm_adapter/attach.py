"""A new version of a bundle that has an adapter."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from pathlib import Path

from bundle.store import open_bundle, write_bundle
from mllm_adapter.model.adapter import (
    LLM_FOLDER,
    AdapterConfig,
    AdapterError,
    open_adapter,
    read_config,
)
from mllm_adapter.model.llm import check_directory

HEADING = "\n\n## Steered chat"
"""Where the card's part about the adapter begins."""


def attach(adapter: Path, bundle: Path, models: Path, version: str) -> Path:
    """Writes `models/NAME/VERSION`: all that the bundle holds, and the adapter under `adapter/`.

    Raises AdapterError when the adapter is for a backbone of another shape, BundleError when the
    version exists.
    """
    source = open_bundle(bundle)
    architecture = source.manifest.architecture
    config = read_config(adapter)
    rows, columns = architecture.patch_grid
    if (config.concepts, config.patches) != (architecture.concepts, rows * columns):
        raise AdapterError(
            f"adapter.json: for {config.concepts} concepts on {config.patches} patches; the bundle "
            f"has {architecture.concepts} on {rows * columns}"
        )
    check_directory(open_adapter(adapter).llm)

    def fill(folder: Path) -> None:
        for name in source.manifest.files:
            if not name.startswith("adapter/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.root / name, folder / name)
        shutil.copytree(adapter, folder / "adapter")
        card = folder / "CARD.md"
        card.write_text(card.read_text().partition(HEADING)[0].rstrip() + _section(config))

    manifest = dataclasses.replace(source.manifest, version=version)
    return write_bundle(models, manifest, fill)


def _section(config: AdapterConfig) -> str:
    """What the card says of the adapter."""
    llm = "a small Llama of its own" if config.llm == LLM_FOLDER else config.llm
    seen = int(config.training.get("samples", 0))
    text = (
        f"`adapter/` lets {llm} read the patch codes through a projector of {config.concepts} x "
        f"{config.width}, trained by the recipe `{config.recipe}` on {seen:,} conversations made "
        "of the training images' captions, keywords and categories, part of them under edits as "
        "callers make them. It answers questions of the forms that it was trained on, and knows "
        f"nothing else. A word becomes its {config.words.top} strongest concepts, the strongest of "
        f"them set to {config.words.strength:g}. docs/chat.md of the repository has what was "
        "measured."
    )
    return f"{HEADING}\n\n{textwrap.fill(text, 100)}\n"
