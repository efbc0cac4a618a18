"""A model small enough to export inside a test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from bundle.concepts import ConceptEvidence, NamedConcept
from bundle.manifest import Preprocessing, Training

if TYPE_CHECKING:
    from training.bundling.onnx_graphs import TopK
    from training.model.sparse_clip import SparseCLIP
    from training.model.tokenizer import CaptionTokenizer

SIDE, CONTEXT, VOCABULARY, CONCEPTS = 32, 16, 600, 256

WORDS = ("red", "green", "blue", "circle", "square", "dog", "cat", "house", "tree", "star")

TEXTS = ("a", "a red circle", "the blue square", "dog", "a cat under a tree", "star " * 40)


def tiny_model(
    *,
    pool: Literal["cls", "patch_mean"] = "patch_mean",
    head: Literal["replaced", "stacked"] = "stacked",
    text_width: int = 32,
    seed: int = 0,
) -> SparseCLIP:
    """One block a tower, random weights, with most codes pushed below 0 as training does it."""
    import torch

    from training.model.sparse_clip import ModelConfig, SparseCLIP

    torch.manual_seed(seed)
    config = ModelConfig(
        vision={"image_size": SIDE, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16},
        text={
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "layers": 1,
            "width": text_width,
            "heads": 2,
        },
        embed_dim=16,
        width_factor=CONCEPTS // 16,
        pool=pool,
        head=head,
        logit_scale_cap=15.0,
    )
    model = SparseCLIP(config).eval()
    norms = (
        (model.image_head, model.image.trunk.ln_post),
        (model.text_head, model.text.trunk.ln_final),
    )
    with torch.no_grad():
        for sparse_head, norm in norms:
            norm.bias.fill_(0.5)
            shift = sparse_head.dense(norm.bias)
            sparse_head.project.weight -= 1.5 * shift / shift.square().sum()
    return model


def tiny_tokenizer() -> CaptionTokenizer:
    """open_clip's tokenizer with the first 86 merges."""
    from training.model.tokenizer import CaptionTokenizer

    return CaptionTokenizer.of_size(VOCABULARY, CONTEXT)


def tiny_concepts() -> list[NamedConcept]:
    """All concepts, the first ones with words for names."""
    return [
        NamedConcept(
            id=i,
            name=WORDS[i] if i < len(WORDS) else f"concept {i}",
            aliases=(f"{WORDS[i]}s",) if i < len(WORDS) else (),
            frequency=1 / (i + 2),
            clarity=0.5 if i % 2 else None,
            modality=0.5,
            active=i % 7 != 6,
            words=(ConceptEvidence(source=WORDS[i % len(WORDS)], value=1.5),),
            images=(ConceptEvidence(source=f"icons/{i}.png", value=2.5),),
        )
        for i in range(CONCEPTS)
    ]


def tiny_images() -> list[Image.Image]:
    """Noise and flat colours, of several sizes."""
    noise = np.random.default_rng(0)
    shapes = ((32, 32), (48, 40), (1, 1), (100, 7))
    return [
        *(Image.fromarray(noise.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes),
        *(Image.new("RGB", (32, 32), colour) for colour in ("red", "white", "black")),
    ]


def tiny_preprocessing() -> Preprocessing:
    """open_clip's, at S = 32."""
    return Preprocessing(
        size=SIDE,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


def graphs_from(bundle: Path) -> Callable[..., None]:
    """Stands in for `write_graphs` where a bundle has the graphs of these very weights already:
    tracing takes seconds, and the parity gate compares them with torch as it does fresh ones."""

    def copy(model: SparseCLIP, topk: TopK, folder: Path, *, half: bool) -> None:
        for kind in ("image", "text", "patches"):
            shutil.copy(bundle / f"{kind}.onnx", folder / f"{kind}.onnx")

    return copy


def export_tiny(
    models_dir: Path,
    *,
    model: SparseCLIP | None = None,
    name: str = "tiny",
    version: str = "1",
    storage: Literal["float16", "float32"] = "float16",
) -> Path:
    """Exports a tiny model the way a real one is exported. A stacked one offers its dense vectors,
    as an imported CLIP would, so that tests reach them."""
    from training.bundling.bundle_writer import GoldenInputs, export_bundle

    model = tiny_model() if model is None else model
    return export_bundle(
        model,
        tiny_tokenizer(),
        preprocessing=tiny_preprocessing(),
        concepts=tiny_concepts(),
        training_record=Training(
            recipe="tiny", data="none", pairs=0, epochs=0.0, samples_seen=0, seed=0
        ),
        models_dir=models_dir,
        name=name,
        version=version,
        golden=GoldenInputs(images=tiny_images(), texts=TEXTS),
        card_text="# tiny\n\nRandom weights, for tests.\n",
        licence_text="Apache License, Version 2.0\n",
        storage=storage,
        shared_dense=model.config.head == "stacked",
    )
