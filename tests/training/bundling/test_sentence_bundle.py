"""Bundles whose text tower stands on a sentence encoder: served and read back from their files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open

from bundle.store import Bundle, BundleError, open_bundle
from serving.in_process import local_server
from sparseclip import Client
from tests.support.tiny_encoders import write_encoder
from tests.training.trainer.test_sentence_runs import recipe_over
from training.bundling.bundle_writer import as_shipped, load_weights
from training.bundling.release import ReleaseConfig, release
from training.bundling.weights_file import weights_of
from training.evaluation.encoder import BundleEncoder
from training.model.sentence_tower import SentenceTower
from training.model.sparse_clip import SparseCLIP
from training.model.stored_tensors import stored_tensors
from training.trainer.loop import train
from training.trainer.trained_model import load_model

TEXTS = ["a red circle", "Dog!", "zz top", "Привет 😀", "the cat sits under a green tree " * 5]


class Exported(NamedTuple):
    """A bundle of which the encoder's folder is gone, and the model that it is of."""

    bundle: Bundle
    model: SparseCLIP


def export(folder: Path, family: str, *, frozen: bool) -> Exported:
    encoder = write_encoder(folder / "encoder", family)
    recipe = recipe_over(encoder, frozen=frozen, loop={"epochs": 1, "ema": 0.9})
    train(recipe, folder / "run")
    (folder / "LICENSE").write_text("licence\n")
    path = release(
        ReleaseConfig(
            run=folder / "run",
            data=None,
            models_dir=folder / "models",
            name="sentences",
            version="1",
            licence=folder / "LICENSE",
        )
    )
    model, _ = load_model(folder / "run")
    shutil.rmtree(encoder)
    return Exported(open_bundle(path), model)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Over BERT, whose tokenizer is WordPiece."""
    return export(tmp_path_factory.mktemp("frozen"), "bert", frozen=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Over XLM-R, whose tokenizer is Unigram, trained further."""
    return export(tmp_path_factory.mktemp("trained"), "xlm-roberta", frozen=False)


@pytest.mark.parametrize("kind", ["frozen", "trained"])
def test_all_of_the_model_comes_from_the_bundle(kind: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(kind)
    bundle = exported.bundle
    model = load_weights(bundle)
    expected = stored_tensors(as_shipped(exported.model))
    found = stored_tensors(model)
    assert any(name.startswith("text.trunk.") for name in found)
    for name, tensor in expected.items():
        if not name.startswith("loss_parameters."):
            assert torch.equal(found[name], tensor), name
    tokens = torch.from_numpy(bundle.tokenizer.encode(TEXTS))
    with torch.no_grad():
        codes = model.encode_text(tokens).codes.numpy()
    served = BundleEncoder(bundle.root).texts(TEXTS)
    assert codes == pytest.approx(served, abs=1e-4)
    assert np.ptp(codes, axis=0).max() > 0.01


def test_frozen_weights_are_there_once(frozen: Exported, trained: Exported) -> None:
    for exported, is_there in ((frozen, False), (trained, True)):
        with safe_open(exported.bundle.file("weights.safetensors"), framework="pt") as file:
            names = set(file.keys())
        assert any("word_embeddings" in name for name in names) is is_there
        for tower in ("text", "image"):
            assert (f"{tower}_head.project.weight" in names) is is_there
    frozen_trunk = sum(
        tensor.numel()
        for name, tensor in stored_tensors(frozen.model).items()
        if name.startswith("text.trunk.")
    )
    with safe_open(frozen.bundle.file("weights.safetensors"), framework="pt") as file:
        kept = [file.get_tensor(name) for name in file.keys() if "trunk.encoder" in name]  # noqa: SIM118
    assert sum(tensor.numel() for tensor in kept) < frozen_trunk / 4


def test_an_encoder_without_weights_is_refused(
    frozen: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(frozen.bundle)
    name = next(name for name in sorted(weights) if name.startswith("text.trunk."))
    del weights[name]
    monkeypatch.setattr("training.bundling.bundle_writer.weights_of", lambda _: weights)
    with pytest.raises(BundleError, match=rf"^weights.safetensors: {name}: is not there$"):
        load_weights(frozen.bundle)


def test_the_manifest_and_the_card_name_the_encoder(frozen: Exported) -> None:
    manifest = frozen.bundle.manifest
    origin = manifest.architecture.text_encoder
    assert origin is not None
    assert isinstance(frozen.model.text, SentenceTower)
    begun = frozen.model.text.description
    assert (origin.name, origin.licence) == ("encoder", "apache-2.0")
    assert origin.weights_sha256 == begun.weights_sha256
    assert manifest.tokenization == begun.tokenization
    assert manifest.tokenization.kind == "wordpiece"
    assert str(frozen.bundle.root.parents[2]) not in manifest.to_json()
    card = frozen.bundle.file("CARD.md").read_text()
    assert "sentence encoder encoder (licence: apache-2.0; frozen)" in card
    assert origin.weights_sha256 in card
    assert json.loads(manifest.to_json())["architecture"]["text_encoder"]["name"] == "encoder"


@pytest.mark.parametrize("kind", ["frozen", "trained"])
def test_it_is_served(kind: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(kind).bundle
    expected = BundleEncoder(bundle.root).texts(TEXTS)
    with local_server(bundle.root, chat=False) as address, Client(address) as client:
        codes = client.embed([], TEXTS).to_csr().toarray()
    assert codes == pytest.approx(expected, abs=1e-4)
