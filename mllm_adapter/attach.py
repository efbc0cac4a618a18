"""Attaching an adapter to a bundle: the result is a new version of that bundle."""

from __future__ import annotations

import dataclasses
import shutil
import textwrap
from pathlib import Path

from bundle.store import open_bundle, write_bundle
from mllm_adapter.data.code_tables import check_adapter
from mllm_adapter.model.adapter import (
    LLM_FOLDER,
    AdapterConfig,
    open_adapter,
    read_config,
)
from mllm_adapter.model.llm_files import check_directory

HEADING = "\n\n## Steered chat"
"""The heading of the model card's section about the adapter."""


def attach(adapter: Path, bundle: Path, models: Path, version: str) -> Path:
    """Writes `models/NAME/VERSION`: the bundle's files, with the adapter under `adapter/`.

    An adapter that the bundle already has is replaced. Raises AdapterError when the adapter reads
    the codes of another backbone, BundleError when the version exists.
    """
    source = open_bundle(bundle)
    config = read_config(adapter)
    check_adapter(config, source.manifest)
    check_directory(open_adapter(adapter).llm)

    def fill(folder: Path) -> None:
        for name in source.manifest.files:
            if not name.startswith("adapter/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.root / name, folder / name)
        shutil.copytree(adapter, folder / "adapter")
        card = folder / "CARD.md"
        _, _, text = card.read_text().partition(HEADING)[0].rstrip().partition("\n")
        heading = f"# {source.manifest.name} {version}"
        card.write_text(f"{heading}\n{text}{_card_section(config)}")

    manifest = dataclasses.replace(source.manifest, version=version)
    return write_bundle(models, manifest, fill)


def _card_section(config: AdapterConfig) -> str:
    """The section about the adapter in the model card."""
    llm = "the language model in `adapter/llm/`" if config.llm == LLM_FOLDER else config.llm
    conversations = int(config.training.get("samples", 0))
    own = config.training.get("own_share", 0.0)
    made = "made from the captions, keywords and categories of the training images"
    source = (
        f"which are {made}"
        if not own
        else "which are its owner's"
        if own == 1
        else f"of which {own:.0%} are its owner's and the others are {made}"
    )
    if about_texts := config.training.get("text_share", 0.0):
        source += f"; {about_texts:.0%} are about phrases, whose text codes take an image's place"
    text = (
        f"`adapter/` lets {llm} read the patch codes through a projector of {config.concepts} x "
        f"{config.width}. The recipe `{config.recipe}` trained it on {conversations:,} "
        f"conversations, {source}. It answers the forms of question that it was trained on. "
        f"A word becomes its {config.words.top} strongest concepts; by default, SET gives the "
        f"strongest of them {config.words.strength:g}. The repository's docs/chat.md has the "
        "measurements."
    )
    return f"{HEADING}\n\n{textwrap.fill(text, 100)}\n"
