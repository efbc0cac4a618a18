"""Inputs of benchmarks: encoded images, and models of a known geometry with random weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = {
    "png128": ((128, 128), "PNG"),
    "jpeg512": ((512, 384), "JPEG"),
    "jpeg1600": ((1600, 1200), "JPEG"),
}
"""Width, height and format of the images that servers are sent."""
DISTINCT = 32
"""How many of them differ from each other. A batch is made of them."""
DISTINCT_IMAGES = 256
"""More images than these are copies of them."""
CONCEPTS_OVER_WIDTH = 16


def image(size: tuple[int, int], form: str, seed: int) -> bytes:
    """Smooth noise, encoded: about as many bytes as a photo or icon of that size has."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3))
    out = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).resize(size).save(out, form)
    return out.getvalue()


def images(work: Path, count: int, size: tuple[int, int] = (512, 384)) -> Path:
    """A folder of `count` JPEGs of a width and a height."""
    folder = work / f"images-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [image(size, "JPEG", seed) for seed in range(min(count, DISTINCT_IMAGES))]
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(encoded[number % len(encoded)])
    return folder


def table(file: Path, rows: int) -> Path:
    """A Parquet file with a column `image` of JPEGs, 128 x 128."""
    import pyarrow
    import pyarrow.parquet as parquet

    encoded = [image((128, 128), "JPEG", seed) for seed in range(DISTINCT_IMAGES)]
    schema = pyarrow.schema([("image", pyarrow.binary())])
    with parquet.ParquetWriter(file, schema, compression="none") as writer:
        for first in range(0, rows, 1000):
            count = min(1000, rows - first)
            images = [encoded[(first + row) % DISTINCT_IMAGES] for row in range(count)]
            writer.write_table(pyarrow.table({"image": images}, schema=schema))
    return file


def vit_b32(models: Path) -> Path:
    """A bundle with the vision tower of CLIP ViT-B/32 and random weights."""
    if (models / "vit_b32").exists():
        return models / "vit_b32" / "1"
    import torch

    from bundle.concepts import NamedConcept
    from bundle.manifest import Preprocessing, Training
    from training.bundling.bundle_writer import GoldenInputs, export_bundle
    from training.core.torchvision_compat import open_clip
    from training.model.sparse_clip import ModelConfig, SparseCLIP
    from training.model.tokenizer import CaptionTokenizer

    torch.manual_seed(0)
    config = ModelConfig(
        name="ViT-B-32",
        text={"layers": 1},
        width_factor=CONCEPTS_OVER_WIDTH,
        pool="cls",
        head="replaced",
        bias=-2.0,  # most codes are below 0, as a trained model's are
    )
    model = SparseCLIP(config).eval()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    golden = GoldenInputs(
        images=[Image.fromarray(image) for image in noise], texts=["a cat", "a dog"]
    )
    return export_bundle(
        model,
        CaptionTokenizer.of_clip(open_clip().get_tokenizer("ViT-B-32")),
        preprocessing=Preprocessing(
            size=224,
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
        ),
        concepts=[
            NamedConcept(id=i, name=f"concept {i}") for i in range(512 * CONCEPTS_OVER_WIDTH)
        ],
        training_record=Training(
            recipe="none", data="none", pairs=0, epochs=0.0, samples_seen=0, seed=0
        ),
        models_dir=models,
        name="vit_b32",
        version="1",
        golden=golden,
        card_text="Random weights.",
        licence_text="None.",
        storage="float32",
    )


def clip_directory(folder: Path) -> Path:
    """CLIP with ViT-B/32's vision tower as transformers saves it, with random weights; its
    tokenizer knows letters only."""
    import json

    import torch

    from training.core.torchvision_compat import transformers

    library = transformers()
    torch.manual_seed(0)
    config = library.CLIPConfig(
        text_config={"num_hidden_layers": 1},
        vision_config={"patch_size": 32},
        projection_dim=512,
    )
    library.CLIPModel(config).save_pretrained(folder)
    library.CLIPImageProcessor().save_pretrained(folder)
    words = [*map(chr, range(33, 127)), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder
