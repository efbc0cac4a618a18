"""A bundle as a SparseEncoder of sentence-transformers: codes, names, saving, refusals."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from bundle.onnx_graph import OnnxGraph
from bundle.store import BundleError, open_bundle
from serving.sparse_encoder.open_encoder import open_sparse_encoder
from tests.support.paths import ROOT

TEXTS = ["a red circle", "the blue square", "a cat under a tree"]


def drawing(seed: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a bundle is on a hub, and sentence-transformers would ask for its card."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Any:
    return open_sparse_encoder(tiny_bundle, threads=1)


def codes(bundle: Path, graph: Any, inputs: Any) -> Any:
    """What the bundle's own graph gives."""
    opened = open_bundle(bundle)
    concepts = opened.manifest.architecture.concepts
    return OnnxGraph(opened.file(f"{graph}.onnx"), graph, threads=1).codes(inputs, concepts)


def test_texts_and_images_become_the_codes_of_the_bundle(encoder: Any, tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    texts = encoder.encode(TEXTS, batch_size=3)
    assert texts.layout is torch.sparse_coo
    tokens = bundle.tokenizer.encode(sorted(TEXTS, key=len, reverse=True))  # as it batches them
    expected = codes(tiny_bundle, "text", tokens)
    order = np.argsort(np.argsort([-len(text) for text in TEXTS]))
    assert np.array_equal(texts.to_dense().numpy(), expected[order])
    images = [drawing(seed) for seed in range(3)]
    pixels = np.stack([bundle.preprocessor(image) for image in images])
    assert np.array_equal(
        encoder.encode(images, batch_size=3).to_dense().numpy(),
        codes(tiny_bundle, "image", pixels),
    )


def test_one_input_is_one_vector(encoder: Any) -> None:
    alone = encoder.encode(TEXTS[0])
    assert alone.shape == (256,) == (encoder.get_embedding_dimension(),)
    assert torch.equal(alone.to_dense(), encoder.encode([TEXTS[0]]).to_dense()[0])
    for mode in ("L", "RGBA", "P"):
        assert encoder.encode(drawing(0, mode)).shape == (256,)
    assert encoder.max_seq_length == 16


def test_a_code_is_told_by_names_strongest_first(encoder: Any, tiny_bundle: Path) -> None:
    vocabulary = open_bundle(tiny_bundle).concepts
    embedded = encoder.encode(TEXTS)
    for row, decoded in zip(embedded.to_dense(), encoder.decode(embedded, top_k=4), strict=True):
        values, concepts = row.topk(min(4, int((row > 0).sum())))
        names = [vocabulary[int(concept)].name for concept in concepts]
        assert decoded == list(zip(names, values.tolist(), strict=True))


def test_similarity_is_the_cosine_of_codes(encoder: Any) -> None:
    texts, images = encoder.encode(TEXTS), encoder.encode([drawing(0), drawing(1)])
    a, b = (codes.to_dense().numpy() for codes in (texts, images))
    cosines = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(encoder.similarity(texts, images).numpy(), cosines, atol=1e-5)


def test_a_prompt_stands_before_texts(encoder: Any) -> None:
    prompted = encoder.encode(["red circle"], prompt="a ")
    assert torch.equal(prompted.to_dense(), encoder.encode(["a red circle"]).to_dense())


def test_what_looks_like_an_address_or_a_path_is_a_text(encoder: Any) -> None:
    for text in ("http://127.0.0.1:9/cat.png", str(ROOT / "docs" / "images" / "cat.png")):
        assert encoder.encode([text]).shape == (1, 256)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([""], "text: must not be empty"),
        ([3], "must be texts, or images of Pillow"),
        ([{"image": drawing(0), "text": "a"}], "image"),
        ([TEXTS[0], drawing(0)], "separately"),
    ],
)
def test_what_it_cannot_read_is_refused(encoder: Any, inputs: list[Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encoder.encode(inputs)


def test_it_is_saved_and_opened_again_without_running_code_of_the_folder(
    encoder: Any, tmp_path: Path
) -> None:
    before = encoder.encode(TEXTS)
    encoder.prompts["query"] = "a "
    encoder.max_active_dims = 7
    try:
        encoder.save(str(tmp_path / "saved"), create_model_card=False)
        encoder.save(str(tmp_path / "saved"), create_model_card=False)  # the same bundle is there
    finally:
        encoder.prompts["query"], encoder.max_active_dims = "", None
    opened = open_sparse_encoder(tmp_path / "saved", threads=1)
    assert opened.prompts["query"] == "a "
    assert opened.similarity_fn_name == "cosine"
    assert opened.max_active_dims == 7
    opened.max_active_dims = None
    assert torch.equal(opened.encode(TEXTS).to_dense(), before.to_dense())


def test_a_saved_folder_that_names_another_class_is_not_opened(
    encoder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    encoder.save(str(folder), create_model_card=False)
    modules = json.loads((folder / "modules.json").read_text())
    for changes, problem in (
        ({"type": "os.system"}, "must list one module"),
        ({"path": "../saved/0_ConceptEncoder"}, "path: must be a folder beside it"),
        ({"path": ".."}, "path: must be a folder beside it"),
    ):
        (folder / "modules.json").write_text(json.dumps([modules[0] | changes]))
        with pytest.raises(BundleError, match=problem):
            open_sparse_encoder(folder)
    for text, problem in (
        ("[", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[1]", "must list one module"),
        ("{}", "must list one module"),
    ):
        (folder / "modules.json").write_text(text)
        with pytest.raises(BundleError, match=rf"modules\.json: {problem}"):
            open_sparse_encoder(folder)


@pytest.mark.parametrize(
    "saved",
    [[1], {"prompts": 5}, {"prompts": {"a": 1}}, {"max_active_dims": "7"}, {"prompts": ["a"]}],
)
def test_settings_of_another_kind_are_refused_by_name(
    encoder: Any, tmp_path: Path, saved: Any
) -> None:
    folder = tmp_path / "saved"
    encoder.save(str(folder), create_model_card=False)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(saved))
    with pytest.raises(BundleError, match="config_sentence_transformers"):
        open_sparse_encoder(folder)


def test_a_copy_that_was_damaged_is_not_opened(encoder: Any, tmp_path: Path) -> None:
    encoder.save(str(tmp_path / "saved"), create_model_card=False)
    file = tmp_path / "saved" / "0_ConceptEncoder" / "bundle" / "concepts.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"concepts\.jsonl"):
        open_sparse_encoder(tmp_path / "saved")


def test_saving_replaces_no_other_bundle(encoder: Any, chat_bundle: Path, tmp_path: Path) -> None:
    open_sparse_encoder(chat_bundle).save(str(tmp_path / "saved"), create_model_card=False)
    with pytest.raises(BundleError, match="another bundle"):
        encoder.save(str(tmp_path / "saved"), create_model_card=False)


def test_a_dense_bundle_is_refused(dense_bundle: Path) -> None:
    with pytest.raises(BundleError, match="concepts"):
        open_sparse_encoder(dense_bundle)


def test_a_copy_opens_the_bundle_again(encoder: Any) -> None:
    """As the processes of a pool do: sessions cannot be copied."""
    module = copy.deepcopy(encoder[0])
    assert module is not encoder[0]
    features = module.preprocess(TEXTS)
    assert torch.equal(
        module(features)["sentence_embedding"], encoder[0](features)["sentence_embedding"]
    )


def test_the_shipped_bundle_finds_what_its_words_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARSECLIP_BUNDLE", raising=False)
    encoder = open_sparse_encoder(threads=1)
    names = ("cat", "dog", "sailboat")
    images = encoder.encode([Image.open(ROOT / "docs/images" / f"{name}.png") for name in names])
    scores = encoder.similarity(encoder.encode([f"a {name}" for name in names]), images)
    assert scores.argmax(dim=1).tolist() == [0, 1, 2]
    assert encoder.decode(images, top_k=1)[2][0][0] == "boat"
    assert encoder.sparsity(images)["active_dims"] < 200


def test_nothing_else_of_serving_imports_torch_for_it() -> None:
    program = "import serving.sparse_encoder.open_encoder, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
