"""From a run to a bundle: figures, names, golden inputs and a card, then the export."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.concepts import Concept
from bundle.manifest import Training
from training.core.checkpoint import find_checkpoint
from training.data.shards import read_index
from training.data.words import WORDS_FILE
from training.evaluation.clarity import Judge, concept_clarity, judge_images
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.encoder import CheckpointEncoder, Encoder, encode_all
from training.evaluation.evaluate import (
    TRAINED,
    EncodedSplit,
    encode_splits,
    evaluate_encoded,
    flat,
)
from training.export.bundle_writer import Golden, export_bundle, shipped
from training.export.model_card import card
from training.model.efficientnet import PACKAGE
from training.model.pixels import preprocessing
from training.trainer.recipe import StartConfig
from training.trainer.trained_model import read_state

GOLDEN = 256
"""Images, and as many captions, on which the graphs are compared with torch."""


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
    judge: Judge | None = None
    """Measures clarity; without one it stays unknown."""


def release(order: Release) -> Path:
    """Evaluates, names and exports a run's last weights; returns the bundle's folder.

    Raises CheckpointError, DataError, ExportError or BundleError, and leaves nothing behind then.
    """
    checkpoint = find_checkpoint(order.run)
    recipe, progress = read_state(checkpoint)
    encoder = CheckpointEncoder(checkpoint)
    encoder.model = shipped(encoder.model)  # figures and names are of the weights that ship
    index = read_index(order.data)
    splits = encode_splits(encoder, order.data, list(index["splits"]))
    held_out = [split for split in splits if split.name != TRAINED]
    figures = [evaluate_encoded(encoder, split, order.judge) for split in held_out]
    concepts = _concepts(encoder, splits, _wordnet(order.data))
    if order.judge is not None:
        concepts = _judged(concepts, held_out, order.judge)
    record = Training(
        recipe=recipe.name,
        data=f"{index['recipe']}@{index['recipe_sha256'][:12]}",
        pairs=int(index["splits"][recipe.data.split]["samples"]),
        epochs=recipe.loop.epochs,
        samples_seen=progress.samples,
        seed=recipe.loop.seed,
        started_from=_start(recipe.start),
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
        golden=_golden(held_out),
        card_text=card(order.name, order.version, recipe, record, figures, index, concepts),
        licence_text=order.licence.read_text(encoding="utf-8"),
    )


def _start(start: StartConfig) -> str:
    if start.image:
        source = f"{start.image} on ImageNet (Apache-2.0, {PACKAGE.label})"
        return f"{source}, the text tower from scratch"
    return start.open_clip or start.checkpoint or "scratch"


def _concepts(
    encoder: Encoder, splits: Sequence[EncodedSplit], wordnet: Sequence[str]
) -> list[Concept]:
    """Concepts named by the captions and keywords of at most two words of the training images,
    then by WordNet's words, with all images as evidence."""
    samples = [sample for split in splits for sample in split.samples]
    trained = [sample for split in splits if split.name == TRAINED for sample in split.samples]
    known = [word for sample in trained for word in sorted(_tags(sample.meta))]
    words = list(dict.fromkeys([*known, *wordnet]))
    word_codes = encode_all(encoder.texts, words, len(words), "words")
    evidence = ImageCodes(
        codes=np.concatenate([split.codes for split in splits]),
        sources=[f"{s.meta['set']}/{s.meta['name']}" for s in samples],
        tags=[_tags(sample.meta) for sample in samples],
        held_out=np.repeat([s.name != TRAINED for s in splits], [len(s.samples) for s in splits]),
    )
    return name_concepts(words, word_codes, evidence)


def _judged(
    concepts: Sequence[Concept], held_out: Sequence[EncodedSplit], judge: Judge
) -> list[Concept]:
    """The concepts with their clarity on the images that are held out."""
    images = judge_images([s.meta for split in held_out for s in split.samples], judge)
    clarity = concept_clarity(np.concatenate([split.codes for split in held_out]), images)
    return [
        dataclasses.replace(concept, clarity=None if math.isnan(value) else round(value, 5))
        for concept, value in zip(concepts, clarity.tolist(), strict=True)
    ]


def _tags(meta: Mapping[str, Any]) -> set[str]:
    tags = {str(w).lower() for w in (meta["caption"], *meta["keywords"])}
    return {tag for tag in tags if tag.count(" ") <= 1}


def _wordnet(data: Path) -> list[str]:
    path = data / WORDS_FILE
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _golden(held_out: Sequence[EncodedSplit]) -> Golden:
    samples = [sample for split in held_out for sample in split.samples]
    chosen = sorted(set(np.linspace(0, len(samples) - 1, GOLDEN).round().astype(int).tolist()))
    return Golden(
        images=[samples[i].image() for i in chosen],
        texts=[samples[i].meta["caption"] for i in chosen],
    )
