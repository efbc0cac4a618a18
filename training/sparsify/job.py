"""From a dense bundle and data to a sparse bundle: embeddings, heads, figures, names, graphs."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.atomic import write_file
from bundle.codes import ACTIVE_ABOVE
from bundle.concepts import NamedConcept
from bundle.image import ImageError
from bundle.manifest import Training
from bundle.plugins import PluginError
from bundle.store import vacant_version
from training.bundling.bundle_writer import CaptionCodes
from training.bundling.name_vocabulary import NameVocabulary
from training.bundling.naming import captions_of, named_by, words_of_data
from training.data.data_recipe import DataError
from training.evaluation.clarity import Judge, named_judge
from training.evaluation.evaluate import EncodedSplit
from training.evaluation.metrics import Floats
from training.loading.pair_data import PairData
from training.loading.samples import describe, held_out_splits
from training.loading.tally import log_left_out
from training.sparsify.embeddings.dense_encoder import DenseBundle
from training.sparsify.embeddings.embedding_cache import (
    EmbeddedSplit,
    EmbeddingCache,
    ImageRow,
    read_rows,
    readable_texts,
)
from training.sparsify.embeddings.head_data import HeadData
from training.sparsify.head_encoder import HeadEncoder, codes_by, encoded
from training.sparsify.head_figures import HeldOutFigures, NameFigures
from training.sparsify.head_options import HeadOptions
from training.sparsify.head_trainer import TrainedHead, train_head
from training.sparsify.heads import HEADS
from training.sparsify.heads.base import CodeHead
from training.sparsify.onnx_heads import HeadGraphError, as_served
from training.sparsify.report import report_page
from training.sparsify.sparse_bundle import GoldenArrays, write_sparse_bundle
from training.sparsify.sparse_card import sparse_card
from training.sparsify.vocabulary import vocabulary_texts, words_for

log = logging.getLogger(__name__)

GOLDEN_ITEMS = 64
"""Images, and texts, on which the graphs are compared with torch."""


@dataclass(frozen=True, kw_only=True)
class SparsifyConfig:
    """What to make sparse, by which data, and where the result goes."""

    bundle: Path
    data: PairData
    split: str
    vocabulary: NameVocabulary | None
    """Words of a user's field: for names, and for heads that learn without captions."""
    models_dir: Path
    name: str
    version: str
    head: str
    """The head of the bundle."""
    compare: Sequence[str]
    """Other heads, that the report compares it with."""
    options: HeadOptions
    run: Path
    """Folder of the heads' checkpoints and of the report."""
    cache: Path | None
    judge: Judge | None


@dataclass(frozen=True, kw_only=True)
class MeasuredHead:
    """A trained head, as it is served, with what is known of it."""

    head: CodeHead
    concepts: list[NamedConcept]
    captions: CaptionCodes | None
    figures: dict[str, Any]


def sparsify(config: SparsifyConfig) -> Path:
    """Trains the heads that a config names, and writes the bundle of the first; returns its folder.

    What was done before a stop is not done again. Raises BundleError, DataError, CheckpointError,
    PluginError, TrainingError, HeadGraphError or ParityError; there is no bundle then.
    """
    vacant_version(config.models_dir, config.name, config.version)
    if not HEADS.load(config.head).exports:
        raise PluginError(f"head {config.head}: is measured only; name it by --compare")
    dense = DenseBundle(config.bundle)
    options, concepts = config.options, config.options.concepts_of(dense.width)
    if options.l0 * concepts < 1:
        raise HeadGraphError(f"--l0: {options.l0:g} of {concepts} concepts is less than one")
    job = SparsifyJob(config, dense, EmbeddingCache(dense, config.cache))
    names = dict.fromkeys([config.head, *config.compare])
    measured = {name: job.measured(name) for name in names}
    report = {
        "teacher": dense.name,
        "data": describe(config.data, config.split).reference,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "options": asdict(config.options),
        "dense": job.figures.dense(),
        "heads": {name: m.figures for name, m in measured.items()},
    }
    write_file(config.run / "report.json", json.dumps(report, indent=1).encode() + b"\n")
    write_file(config.run / "report.html", report_page(report).encode())
    chosen = measured[config.head]
    return write_sparse_bundle(
        dense,
        chosen.head,
        concepts=chosen.concepts,
        captions=chosen.captions,
        record=job.record(config.head, chosen.figures),
        golden=job.golden(),
        card=sparse_card(
            f"{config.name} {config.version}",
            dense,
            chosen.head.recipe,
            describe(config.data, config.split),
            chosen.figures,
            chosen.concepts,
        ),
        models_dir=config.models_dir,
        name=config.name,
        version=config.version,
    )


def warn_of_empty(name: str, codes: Floats) -> None:
    """Says how many images no concept answers to, by their codes (N, C)."""
    if empty := int((codes.max(axis=1) <= ACTIVE_ABOVE).sum()):
        log.warning(
            "head %s: no concept answers to %d of %d training images; a higher --l0 or more --steps"
            " may help",
            name,
            empty,
            len(codes),
        )


def warn_of_names(name: str, names: NameFigures, untrained: NameFigures) -> None:
    """Says that a head's names are no more certain than those of the same head untrained."""
    certain, chance = names.mean_confidence, untrained.mean_confidence
    if certain is not None and chance is not None and certain <= chance:
        log.warning(
            "head %s: its names are no better than an untrained head's: mean confidence %.1f%%, and"
            " %.1f%% untrained",
            name,
            100 * certain,
            100 * chance,
        )


class SparsifyJob:
    """The embeddings of one teacher and one data set, and the heads over them."""

    def __init__(self, config: SparsifyConfig, dense: DenseBundle, cache: EmbeddingCache) -> None:
        """Embeds what the cache does not have. Raises DataError."""
        self.config, self.dense, self.cache = config, dense, cache
        data = config.data
        if not data.is_built:
            log_left_out(data.name, data.split(config.split).source.left_out)
        self.trained = cache.split(data, config.split)
        names = held_out_splits(data, config.split) if self.has_captions else []
        held_out = [cache.split(data, name) for name in names]
        own = () if config.vocabulary is None else config.vocabulary.words
        self.words = words_for(data, own)
        self.head_data = self._head_data(self.trained)
        encoder = dense.bundle.manifest.architecture.text_encoder_sha256
        judge = named_judge(config.judge, encoder)
        self.figures = HeldOutFigures(cache, data.name, held_out, judge)

    def _head_data(self, split: EmbeddedSplit) -> HeadData:
        captions = [text for meta in split.metas for text in meta["captions"]]
        distinct = readable_texts(captions)
        if cut := sum(map(self.dense.bundle.tokenizer.is_cut, distinct)):
            log.info("captions: %d of %d different ones are cut at the context", cut, len(distinct))
        vocabulary = vocabulary_texts(self.words, distinct)
        if not vocabulary:
            raise DataError("vocabulary: the data have neither captions nor words; name a file")
        texts = list(dict.fromkeys([*distinct, *vocabulary]))
        vectors = torch.from_numpy(self.cache.texts(texts))
        return HeadData.of(split, {t: n for n, t in enumerate(texts)}, vectors, vocabulary)

    @property
    def has_captions(self) -> bool:
        """Whether the images have captions: labels to measure with, and evidence for names."""
        return any(meta["captions"] for meta in self.trained.metas)

    def measured(self, name: str) -> MeasuredHead:
        """Trains one head and measures it."""
        scale = self.dense.bundle.manifest.architecture.logit_scale
        recipe = self.config.options.recipe(name, self.dense.width, scale, self.head_data)
        trained = train_head(recipe, self.head_data, self.config.run / name)
        head, untrained = as_served(trained.head), as_served(trained.untrained)
        # Codes are handed on and not kept: those of two heads take gigabytes where C is large.
        concepts, captions = self._named(head, self._coded(head, warn_as=name))
        control, _ = self._named(untrained, self._coded(untrained))
        names, chance = NameFigures.of(concepts), NameFigures.of(control)
        warn_of_names(name, names, chance)
        figures = {
            "splits": self.figures.head(head, untrained),
            "names": asdict(names),
            "names_untrained": asdict(chance),
            "logit_scale": head.scale,
            **_cost(trained),
        }
        return MeasuredHead(head=head, concepts=concepts, captions=captions, figures=figures)

    def _coded(self, head: CodeHead, warn_as: str | None = None) -> EncodedSplit:
        """The codes of the training images. With a name, empty ones are counted on stderr."""
        split = encoded(self.trained, self.config.data.name, codes_by(head), held_out=False)
        if warn_as is not None:
            warn_of_empty(warn_as, split.codes)
        return split

    def _named(
        self, head: CodeHead, split: EncodedSplit
    ) -> tuple[list[NamedConcept], CaptionCodes | None]:
        represent = codes_by(head)
        encoder = HeadEncoder(name="head", embed_texts=self.cache.texts, represent=represent)
        vocabulary, words = self.config.vocabulary, words_of_data(self.config.data)
        concepts = named_by(encoder, split, words, vocabulary)
        if self.has_captions:
            return concepts, captions_of(encoder, split)
        # No word of an image bears a name out, or marks a hub: neither was measured.
        return [dataclasses.replace(c, name_confidence=None, hub=False) for c in concepts], None

    def golden(self) -> GoldenArrays:
        """Images of the training split, and texts."""
        pixels: list[Any] = []
        for row in islice(read_rows(self.config.data, self.config.split), 4 * GOLDEN_ITEMS):
            if len(pixels) < GOLDEN_ITEMS and isinstance(row, ImageRow):
                try:
                    pixels.append(self.dense.pixels(row.encoded))
                except ImageError:
                    continue
        captions = [text for meta in self.trained.metas for text in meta["captions"]]
        texts = readable_texts(captions or self.words)
        tokens = self.dense.bundle.tokenizer.encode(texts[:: max(1, len(texts) // GOLDEN_ITEMS)])
        return GoldenArrays(pixels=np.stack(pixels), tokens=tokens)

    def record(self, head: str, figures: dict[str, Any]) -> Training:
        """What the manifest says of the heads' training."""
        options, data = self.config.options, describe(self.config.data, self.config.split)
        flat = {
            f"{split}.{name}": round(float(value), 3)
            for split, f in figures["splits"].items()
            for name, value in (
                ("top1", f["top1"]["percent"]),
                ("top1_error", f["top1"]["error"]),
                ("top5", f["top5"]["percent"]),
                ("text_to_image_1", f["text_to_image_1"]["percent"]),
                ("l0_image", f["image_sparsity"]["l0"]),
                ("l0_text", f["text_sparsity"]["l0"]),
                ("active", f["image_sparsity"]["active"]),
            )
        }
        images = len(self.head_data.images)
        samples = options.steps * min(options.batch_size, images)
        return Training(
            recipe=f"sparsify:{head}",
            data=data.reference,
            pairs=images,
            epochs=round(samples / images, 2),
            samples_seen=samples,
            seed=options.seed,
            started_from=f"the frozen towers of {self.dense.name}",
            hardware=f"{platform.machine()} CPU",
            seconds=figures["seconds"],
            figures=flat,
        )


def _cost(trained: TrainedHead) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kibibytes elsewhere
    return {"seconds": round(trained.seconds, 1), "peak_mib": round(peak * unit / 2**20)}
