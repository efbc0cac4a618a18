"""Writes a trained model as a bundle. B batch, T tokens, S image side, C concepts, D width."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bundle.architecture import Architecture
from bundle.captions import CAPTIONS_FILE, write_captions
from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.manifest import Manifest, Preprocessing, Training
from bundle.open_tokenizer import open_tokenizer
from bundle.preprocessor import Preprocessor
from bundle.schema import from_dict
from bundle.store import Bundle, BundleError, write_version
from training.bundling.onnx_graphs import TopK, write_graphs
from training.bundling.onnx_parity import ParityError, check_graphs, choose_topk
from training.bundling.weights_file import WEIGHTS_FILE, is_rounded, weights_of, write_weights
from training.model.sentence_tower import KEY, SentenceTower
from training.model.sparse_clip import ModelConfig, SparseCLIP
from training.model.stored_tensors import stored_tensors
from training.model.tokenizer import CaptionTokenizer

Storage = Literal["float16", "float32"]


class BundleExportError(ValueError):
    """A model that cannot become a bundle; the message says why."""


@dataclass(frozen=True, kw_only=True)
class GoldenInputs:
    """Inputs on which the graphs must agree with torch; the widths of TopK are chosen on them."""

    images: Sequence[Image.Image]
    texts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class CaptionCodes:
    """The distinct captions of training images, with their codes."""

    texts: Sequence[str]
    codes: NDArray[np.float32]
    """(N, C), from the text tower."""


def export_bundle(
    model: SparseCLIP,
    tokenizer: CaptionTokenizer,
    *,
    preprocessing: Preprocessing,
    concepts: Iterable[NamedConcept],
    training_record: Training,
    models_dir: Path,
    name: str,
    version: str,
    golden: GoldenInputs,
    card_text: str,
    licence_text: str,
    storage: Storage = "float16",
    shared_dense: bool = False,
    captions: CaptionCodes | None = None,
) -> Path:
    """Writes `models_dir/name/version`, makes it current, and returns its directory.

    `tokenizer` is the one that the model was trained with. With float16 storage the weights are
    rounded first, and the graphs are compared with the rounded model, which is the one that ships;
    computation stays in float32. `model` itself is not changed. With `shared_dense` the bundle
    offers its dense vectors (see Architecture.dense), and with `captions` it names images by them.

    Raises BundleExportError for a model without ReLU, inputs that do not fit it, or a graph that
    fails the parity gate, and BundleError for a version that exists. Then nothing is left behind.
    """
    concepts = list(concepts)
    _check(model, tokenizer, preprocessing, len(concepts), golden)
    if shared_dense and model.image_head.dense_dim != model.text_head.dense_dim:
        raise BundleExportError("shared_dense: the towers' dense vectors differ in width")
    model = as_shipped(model, storage)

    def write(work: Path) -> Manifest:
        (work / "LICENSE").write_text(licence_text, encoding="utf-8")
        (work / "CARD.md").write_text(card_text, encoding="utf-8")
        ConceptVocabulary.write(work / "concepts.jsonl", concepts)
        if captions is not None:
            write_captions(work / CAPTIONS_FILE, captions.texts, captions.codes)
        path = work / "tokenizer.json"
        tokenizer.write(path)
        # From here on with the tokenizer and the preprocessing that a server will use.
        reader = open_tokenizer(path, model.text.context_length, tokenizer.tokenization)
        tokens = reader.encode(golden.texts)
        pixels = np.stack([Preprocessor(preprocessing)(image) for image in golden.images])
        topk = choose_topk(model, pixels, tokens)
        write_graphs(model, topk, work, half=storage == "float16")
        write_weights(model, work, half=storage == "float16")
        try:
            parity = check_graphs(model, work, pixels, tokens)
        except ParityError as error:
            raise BundleExportError(str(error)) from error
        return Manifest(
            name=name,
            version=version,
            kind="sparse",
            tokenization=tokenizer.tokenization,
            architecture=_architecture(model, topk, shared_dense),
            preprocessing=preprocessing,
            training=training_record,
            image_parity=parity.image,
            text_parity=parity.text,
            patch_parity=parity.patches,
            files={},
        )

    return write_version(models_dir, name, version, write)


def as_shipped(model: SparseCLIP, storage: Storage = "float16") -> SparseCLIP:
    """A copy of the model in float32 and evaluation mode, with the weights that a bundle holds.

    With float16 storage all weights but single numbers are rounded. Raises BundleExportError for a
    weight beyond the range of float16.
    """
    model = copy.deepcopy(model).cpu().float().eval()
    if storage == "float16":
        with torch.no_grad():
            for name, tensor in stored_tensors(model).items():
                if is_rounded(tensor):
                    tensor.copy_(tensor.half().float())
                    if not torch.isfinite(tensor).all():
                        raise BundleExportError(f"{name}: does not fit float16")
    return model


def load_weights(bundle: Bundle) -> SparseCLIP:
    """The torch model of a bundle, in float32 and evaluation mode. No other file is read. Raises
    BundleError for a weight that the bundle does not have."""
    config = from_dict(ModelConfig, bundle.manifest.architecture.config, at="architecture.config")
    model, weights = SparseCLIP(config), weights_of(bundle)
    # A model takes a state dict without its frozen encoder, whose weights would stay random here.
    if missing := sorted(stored_tensors(model).keys() - weights.keys()):
        raise BundleError(f"{WEIGHTS_FILE}: {missing[0]}: is not there")
    model.load_state_dict(weights)
    return model.eval()


def _check(
    model: SparseCLIP,
    tokenizer: CaptionTokenizer,
    preprocessing: Preprocessing,
    concepts: int,
    golden: GoldenInputs,
) -> None:
    if not model.config.relu:
        raise BundleExportError("model: has no ReLU, so it has no sparse codes to export")
    if concepts != model.config.concepts:
        raise BundleExportError(f"concepts: {concepts} for a model of {model.config.concepts}")
    ids, is_clip = tokenizer.reader.vocabulary, tokenizer.tokenization.kind == "clip_bpe"
    # The table of an encoder may be rounded up.
    if ids > model.text.vocabulary or (is_clip and ids < model.text.vocabulary):
        raise BundleExportError("tokenizer: has another vocabulary than the text tower")
    if preprocessing.size != model.image.image_size:
        raise BundleExportError(f"preprocessing.size: must be {model.image.image_size}")
    if not golden.images or not golden.texts:
        raise BundleExportError("golden: needs at least one image and one text")


def _architecture(model: SparseCLIP, topk: TopK, shared_dense: bool) -> Architecture:
    config = model.config
    text, encoder = config.text, None
    if isinstance(model.text, SentenceTower):
        encoder = model.text.description.origin
        text = {**text, KEY: encoder.name}  # which may be a path
    return Architecture(
        family=f"open_clip:{config.name or 'custom'}",
        concepts=config.concepts,
        dense_dim=model.image_head.dense_dim,
        text_dense_dim=model.text_head.dense_dim,
        head=config.head,
        pool=config.pool,
        patch_grid=model.patch_grid,
        context_length=model.text.context_length,
        vocabulary=model.text.vocabulary,
        image_topk=topk.image,
        text_topk=topk.text,
        patch_topk=topk.patch,
        logit_scale=float(model.scale.detach()),
        logit_scale_cap=config.logit_scale_cap,
        config=dataclasses.asdict(dataclasses.replace(config, text=text)),
        text_encoder=encoder,
        dense="shared" if shared_dense else None,
    )
