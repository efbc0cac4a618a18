"""From a run to a bundle: figures, names, golden inputs and a card, then the export."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.concepts import Concept
from bundle.manifest import Training
from training.card import card
from training.checkpoint import find, read_state
from training.data.shards import read_index, read_split
from training.data.words import FILE as WORDS
from training.encoder import CheckpointEncoder, Encoder, encode_all
from training.evaluate import evaluate_split, flat, held_out_splits, pictures
from training.export import Golden, export_bundle, shipped
from training.naming import Pictures, name_concepts
from training.pairs import preprocessing

GOLDEN = 256
"""Pictures, and as many captions, on which the graphs are compared with torch."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Where a bundle comes from and where it goes."""

    run: Path
    """A run's folder, or one checkpoint."""
    data: Path
    """The data set it was trained on."""
    models_dir: Path
    name: str
    version: str
    licence: Path
    """The file that becomes the bundle's LICENSE."""


def release(order: Release) -> Path:
    """Evaluates, names and exports a run's last weights; returns the bundle's folder.

    Raises CheckpointError, DataError, ExportError or BundleError, and leaves nothing behind then.
    """
    checkpoint = find(order.run)
    recipe, progress = read_state(checkpoint)
    encoder = CheckpointEncoder(checkpoint)
    encoder.model = shipped(encoder.model)  # figures and names are of the weights that ship
    splits = held_out_splits(order.data)
    figures = [evaluate_split(encoder, order.data, split) for split in splits]
    concepts = _concepts(encoder, order.data)
    index = read_index(order.data)
    record = Training(
        recipe=recipe.name,
        data=f"{index['recipe']}@{index['recipe_sha256'][:12]}",
        pairs=int(index["splits"][recipe.data.split]["samples"]),
        epochs=recipe.loop.epochs,
        samples_seen=progress.samples,
        seed=recipe.loop.seed,
        started_from=recipe.start.open_clip or recipe.start.checkpoint or "scratch",
        hardware=f"{platform.machine()} CPU",
        seconds=round(progress.seconds, 1),
        figures=flat(figures),
    )
    return export_bundle(
        encoder.model,
        encoder.encode,
        preprocessing=preprocessing(encoder.model.image.image_size),
        concepts=concepts,
        training_record=record,
        models_dir=order.models_dir,
        name=order.name,
        version=order.version,
        golden=_golden(order.data, splits),
        card_text=card(order.name, order.version, recipe, record, figures, index, concepts),
        licence_text=order.licence.read_text(encoding="utf-8"),
    )


def naming_words(data: Path) -> list[str]:
    """The captions and keywords of at most two words of the training split, then WordNet's words,
    each once."""
    words = dict.fromkeys(w for s in read_split(data, "train") for w in sorted(_tags(s.meta)))
    if (data / WORDS).is_file():
        words |= dict.fromkeys((data / WORDS).read_text(encoding="utf-8").splitlines())
    return list(words)


def _tags(meta: Mapping[str, Any]) -> set[str]:
    tags = {str(w).lower() for w in (meta["caption"], *meta["keywords"])}
    return {tag for tag in tags if tag.count(" ") <= 1}


def _concepts(encoder: Encoder, data: Path) -> list[Concept]:
    words = naming_words(data)
    word_codes = encode_all(encoder.texts, words, len(words), "words")
    splits = list(read_index(data)["splits"])
    metas = [dict(s.meta) for split in splits for s in read_split(data, split)]
    shown = (image for split in splits for image in pictures(data, split))
    evidence = Pictures(
        codes=encode_all(encoder.images, shown, len(metas), "pictures"),
        sources=[f"{m['set']}/{m['name']}" for m in metas],
        tags=[_tags(m) for m in metas],
    )
    return name_concepts(words, word_codes, evidence)


def _golden(data: Path, splits: list[str]) -> Golden:
    metas = [dict(s.meta) for split in splits for s in read_split(data, split)]
    chosen = set(np.linspace(0, len(metas) - 1, GOLDEN).round().astype(int).tolist())

    def images() -> Iterator[tuple[int, Image.Image]]:
        yield from enumerate(image for split in splits for image in pictures(data, split))

    return Golden(
        images=[image for i, image in images() if i in chosen],
        texts=[metas[i]["caption"] for i in sorted(chosen)],
    )
