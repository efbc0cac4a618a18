"""Turns a run into a bundle: figures, concept names, golden inputs and a card, then the export."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.concepts import NamedConcept
from bundle.manifest import Training
from training.bundling.bundle_writer import GoldenInputs, as_shipped, export_bundle
from training.bundling.model_card import ResearchFigures, described_encoder, model_card
from training.bundling.name_vocabulary import NameVocabulary
from training.bundling.naming import captions_of, named_by, words_of_data
from training.core.checkpoint import find_checkpoint
from training.data.data_recipe import DataError
from training.evaluation.clarity import Judge, concept_clarity, judge_images, named_judge
from training.evaluation.encoder import CheckpointEncoder
from training.evaluation.evaluate import (
    EncodedSplit,
    encode_splits,
    evaluate_encoded,
    figures_by_name,
)
from training.evaluation.untrained import untrained_head
from training.loading.pair_data import ALL, PairData
from training.loading.samples import LabelledImage, as_pair_data, describe, held_out_splits
from training.model.efficientnet import TRUNKS
from training.model.pixels import preprocessing
from training.model.sentence_tower import KEY
from training.trainer.trained_model import read_state
from training.trainer.training_recipe import TrainingRecipe

GOLDEN_ITEMS = 256
"""Number of images, and of captions, on which the graphs are compared with torch."""


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """Where a bundle comes from and where it goes."""

    run: Path
    """The folder of a run, or of one checkpoint."""
    data: Path | PairData | None
    """The data that the model was trained on; None for those that the run's recipe names."""
    models_dir: Path
    name: str
    version: str
    licence: Path
    """The file that becomes the bundle's LICENSE."""
    vocabulary: NameVocabulary | None = None
    """A user's words that may become names; None for the data set's own."""
    judge: Judge | None = None
    """Measures clarity; without a judge it stays unknown."""
    research_run: Path | None = None
    """A run of the same recipe on data that hold more out, whose figures the card adds."""


def release(config: ReleaseConfig) -> Path:
    """Evaluates a run's last weights, names their concepts, and exports them; returns the bundle's
    folder.

    Raises CheckpointError, DataError, BundleExportError or BundleError, and then leaves nothing
    behind.
    """
    checkpoint = find_checkpoint(config.run)
    recipe, progress = read_state(checkpoint)
    encoder = CheckpointEncoder(checkpoint)
    judge = named_judge(config.judge, encoder.text_encoder)
    encoder.model = as_shipped(encoder.model)  # figures and names describe the weights that ship
    research = None if config.research_run is None else _research(config.research_run, recipe)
    data = recipe.data.open() if config.data is None else as_pair_data(config.data)
    data = data.held_out_by(recipe.data.held_out)
    trained = recipe.data.split
    description = describe(data, trained)
    names = [ALL] if trained == ALL else data.splits
    control = None if judge is None else untrained_head(encoder)
    encoded = encode_splits(encoder, data, names, trained, control)
    splits = [split for split in encoded if split.samples]
    held_out = [split for split in splits if split.held_out]
    figures = [evaluate_encoded(encoder, split, judge, control) for split in held_out]
    trained_on = next((split for split in splits if not split.held_out), None)
    if trained_on is None:
        raise DataError(f"data.path: {data.name} holds no good pair of {trained}")
    concepts = named_by(encoder, trained_on, words_of_data(data), config.vocabulary)
    if judge is not None and held_out:
        concepts = _with_clarity(concepts, held_out, judge)
    record = Training(
        recipe=recipe.name,
        data=description.reference,
        pairs=description.pairs,
        epochs=recipe.loop.epochs,
        samples_seen=progress.samples,
        seed=recipe.loop.seed,
        started_from=_start(recipe),
        hardware=f"{platform.machine()} CPU",
        seconds=round(progress.seconds, 1),
        figures=figures_by_name(figures),
    )
    return export_bundle(
        encoder.model,
        encoder.tokenizer,
        preprocessing=preprocessing(encoder.model.image.image_size),
        concepts=concepts,
        captions=captions_of(encoder, trained_on),
        training_record=record,
        models_dir=config.models_dir,
        name=config.name,
        version=config.version,
        golden=_golden(held_out, trained_on),
        card_text=model_card(
            config.name, config.version, recipe, record, figures, description, concepts, research
        ),
        licence_text=config.licence.read_text(encoding="utf-8"),
    )


def _research(run: Path, shipped: TrainingRecipe) -> ResearchFigures:
    """The figures of another run on its own held-out splits. Raises DataError, also for a run that
    differs from the shipped one in more than its data, its seed and the run that it went on from.
    """
    checkpoint = find_checkpoint(run)
    recipe, _ = read_state(checkpoint)
    if recipe.start.checkpoint and shipped.start.checkpoint:
        start = dataclasses.replace(recipe.start, checkpoint=shipped.start.checkpoint)
        recipe = dataclasses.replace(recipe, start=start)
    for section in ("model", "start", "augment", "optimizer"):
        if getattr(recipe, section) != getattr(shipped, section):
            raise DataError(
                f"research run: its section `{section}` is not that of the run to export"
            )
    encoder = CheckpointEncoder(checkpoint)
    encoder.model = as_shipped(encoder.model)
    data = recipe.data.open().held_out_by(recipe.data.held_out)
    names = held_out_splits(data, recipe.data.split)
    if not names:
        raise DataError("research run: its data hold nothing out")
    splits = encode_splits(encoder, data, names, recipe.data.split)
    return ResearchFigures(
        data=describe(data, recipe.data.split),
        seed=recipe.loop.seed,
        figures=[evaluate_encoded(encoder, split, None) for split in splits if split.samples],
    )


def _start(recipe: TrainingRecipe) -> str:
    start, text = recipe.start, "the text tower from scratch"
    if described := described_encoder(recipe.model):
        text = f"the text tower over the sentence encoder {described}"
    if start.image:
        source = f"{start.image} on ImageNet (Apache-2.0, {TRUNKS[start.image].package.label})"
        before = f", after {start.checkpoint}, whose samples are not among these"
        return f"{source}, {text}{before if start.checkpoint else ''}"
    source = start.open_clip or start.checkpoint
    if KEY in recipe.model.text:
        return f"{source}, {text}" if source else text
    return source or "scratch"


def _with_clarity(
    concepts: Sequence[NamedConcept], held_out: Sequence[EncodedSplit], judge: Judge
) -> list[NamedConcept]:
    """The concepts, with their clarity on the held-out images."""
    images = judge_images([s.meta for split in held_out for s in split.samples], judge)
    clarity = concept_clarity(np.concatenate([split.codes for split in held_out]), images)
    return [
        dataclasses.replace(concept, clarity=None if math.isnan(value) else round(value, 5))
        for concept, value in zip(concepts, clarity.tolist(), strict=True)
    ]


def _golden(held_out: Sequence[EncodedSplit], trained_on: EncodedSplit) -> GoldenInputs:
    """Held-out samples, and samples that were trained on where there are too few."""
    golden = _spread([sample for split in held_out for sample in split.samples], GOLDEN_ITEMS)
    if len(golden) < GOLDEN_ITEMS:
        golden += _spread(trained_on.samples, GOLDEN_ITEMS - len(golden))
    return GoldenInputs(
        images=[sample.image() for sample in golden],
        texts=[sample.meta["caption"] for sample in golden],
    )


def _spread(samples: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """At most so many samples, from all over a list."""
    indices = np.linspace(0, len(samples) - 1, count).round().astype(int)
    return [samples[i] for i in sorted(set(indices.tolist()))] if samples else []
