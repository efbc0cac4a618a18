"""Models of Hugging Face, beside the library itself: tiny ones of each family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.hf_models import REAL, TINY, write_hf_model
from bundle.onnx_graph import DENSE_OUTPUTS, INPUT, OnnxGraph
from bundle.open_tokenizer import open_tokenizer
from bundle.preprocessor import Preprocessor
from tests.training.importing.varied_texts import LINES, varied_texts
from training.core.onnx_file import write_onnx
from training.importing.base import ImportedModel, SourceOptions
from training.importing.hf_source import HFSource

Load = Callable[[str], ImportedModel]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder, loaded = tmp_path_factory.mktemp("hf"), {}

    def model(family: str) -> ImportedModel:
        if family not in loaded:
            write_hf_model(family, folder / family, TINY)
            loaded[family] = HFSource().load(str(folder / family), SourceOptions())
        return loaded[family]

    return model


def images() -> list[Image.Image]:
    """Of several shapes and modes; smooth, as photographs are."""
    rng = np.random.default_rng(0)
    shapes = [(64, 64), (47, 90), (101, 60), (33, 65), (20, 31), (64, 65), (300, 200)]
    pictures = []
    for height, width in shapes:
        noise = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    return [*pictures, pictures[0].convert("L")]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (a, b))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


@pytest.mark.parametrize("family", REAL)
def test_pixels_are_those_of_the_models_own_processor(load: Load, family: str) -> None:
    model = load(family)
    expected = model.reference.pixels(images())
    pixels = np.stack([Preprocessor(model.preprocessing)(image) for image in images()])
    deviation = np.asarray(model.preprocessing.std, dtype=np.float32)[:, None, None]
    assert np.abs((pixels - expected) * deviation).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("family", REAL)
def test_token_ids_are_those_of_the_models_own_tokenizer(
    load: Load, family: str, tmp_path: Path
) -> None:
    model, texts = load(family), varied_texts()
    model.write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = open_tokenizer(
        tmp_path / "tokenizer.json", model.context_length, model.tokenization
    )
    ids, expected = tokenizer.encode(texts), model.reference.tokens(texts)
    wrong = [text for text, a, b in zip(texts, ids, expected, strict=True) if (a != b).any()]
    assert wrong == []
    assert len({row.tobytes() for row in ids}) > 1_000
    assert tokenizer.vocabulary <= model.vocabulary
    assert len(tokenizer.encode(["</s> <eos> <|endoftext|>"])) == 1
    ends = {int(row[-1]) for row in ids}  # full rows end with the end token
    special = tokenizer.encode(["a</s>b <eos>c <|endoftext|>d e f g h"])[0]
    assert [int(n) for n in special[:5] if int(n) in ends] == []


@pytest.mark.parametrize("family", REAL)
def test_graphs_give_the_librarys_own_embeddings(load: Load, family: str, tmp_path: Path) -> None:
    model = load(family)
    pixels = model.reference.pixels(images())[:5]
    tokens = model.reference.tokens(LINES[:6])
    assert model.patches is not None
    jobs = (("patches", model.patches, pixels), ("text", model.text, tokens))
    if family == "siglip2_fixed":  # the towers of siglip, with another tokenizer
        with torch.no_grad():
            assert (
                cosine(model.text(torch.from_numpy(tokens)).numpy(), model.reference.texts(tokens))
                >= 0.9999
            )
        return
    for name, module, inputs in jobs:
        path = tmp_path / f"{name}.onnx"
        example = torch.from_numpy(inputs[:2])
        write_onnx(module, example, INPUT[name], DENSE_OUTPUTS[name], path, half=False)
        outputs = OnnxGraph(path, name, sparse=False).run(inputs)
        own = model.reference.images if name == "patches" else model.reference.texts
        assert cosine(outputs["dense"], own(inputs)) >= 0.9999
    with torch.no_grad():
        image = model.image(torch.from_numpy(pixels))
        pooled, patches = model.patches(torch.from_numpy(pixels))
    rows, columns = model.patch_grid or (0, 0)
    assert patches.shape == (5, rows * columns, image.shape[1])
    assert torch.allclose(pooled, image, atol=1e-5)


def test_a_patch_is_pooled_as_the_head_pools_one_token(load: Load) -> None:
    model = load("siglip")
    vision = model.image.model.vision_model
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        states = vision(pixel_values=pixels).last_hidden_state
        alone = vision.head(states.flatten(0, 1)[:, None]).unflatten(0, states.shape[:2])
        assert torch.allclose(model.patches(pixels)[1], alone, atol=1e-5)


def test_scores_are_those_of_the_configuration(load: Load) -> None:
    clip, siglip = load("clip"), load("siglip")
    assert (clip.score, clip.logit_bias) == ("softmax", 0.0)
    assert (siglip.score, siglip.logit_bias) == ("sigmoid", -4.0)
    assert siglip.logit_scale == pytest.approx(np.exp(2.5), rel=1e-6)
