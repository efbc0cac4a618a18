"""A model as three graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bundle.codes import SparseCodes
from bundle.store import Bundle, open_bundle
from tests.support.paths import ROOT
from tests.support.tiny_model import (
    CONCEPTS,
    SIDE,
    TEXTS,
    export_tiny,
    tiny_concepts,
    tiny_images,
    tiny_model,
    tiny_preprocessing,
    tiny_tokenizer,
)
from training.bundling.bundle_writer import (
    BundleExportError,
    GoldenInputs,
    export_bundle,
    load_weights,
)
from training.model.sparse_clip import SparseCLIP

Outputs = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other head and the other pool than `tiny_bundle` has, in float32."""
    model = tiny_model(pool="cls", head="replaced", text_width=48)
    return export_tiny(tmp_path_factory.mktemp("models"), model=model, storage="float32")


@pytest.fixture(params=["tiny_bundle", "other_bundle"])
def opened(request: pytest.FixtureRequest) -> Bundle:
    return open_bundle(request.getfixturevalue(request.param))


def run(opened: Bundle, graph: str, inputs: NDArray[Any]) -> Outputs:
    session = onnxruntime.InferenceSession(
        str(opened.file(graph)), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    values = session.run(None, {session.get_inputs()[0].name: inputs})
    return dict(zip(names, values, strict=True))


def pixels(opened: Bundle) -> NDArray[np.float32]:
    return np.stack([opened.preprocessor(image) for image in tiny_images()])


def agree(outputs: Outputs, codes: torch.Tensor, dense: torch.Tensor) -> None:
    """The five outputs of a row, beside torch's codes and dense vectors."""
    expected = codes.numpy()
    sparse = SparseCodes.from_topk(outputs["indices"], outputs["values"], concepts=CONCEPTS)
    sparse.validate()
    assert np.allclose(sparse.to_dense(), expected, atol=1e-5)
    assert np.array_equal(outputs["active"], (expected > 0).sum(axis=1))
    assert np.allclose(outputs["norm"], np.linalg.norm(expected, axis=1), rtol=1e-5, atol=1e-6)
    assert np.allclose(outputs["dense"], dense.numpy(), atol=1e-5)
    assert (np.diff(outputs["values"], axis=1) <= 0).all()


@torch.no_grad()
def test_images(opened: Bundle) -> None:
    model, x = load_weights(opened), pixels(opened)
    agree(run(opened, "image.onnx", x), *model.encode_image(torch.from_numpy(x)))


@torch.no_grad()
def test_texts(opened: Bundle) -> None:
    model, tokens = load_weights(opened), opened.tokenizer.encode(TEXTS)
    agree(run(opened, "text.onnx", tokens), *model.encode_text(torch.from_numpy(tokens)))


@torch.no_grad()
def test_patches(opened: Bundle) -> None:
    model, x = load_weights(opened), pixels(opened)
    outputs = run(opened, "patches.onnx", x)
    agree(outputs, *model.encode_image(torch.from_numpy(x)))
    expected = model.encode_patches(torch.from_numpy(x)).numpy()
    assert outputs["patch_active"].shape == expected.shape[:2] == (len(x), 16)
    assert np.array_equal(outputs["patch_active"], (expected > 0).sum(axis=2))
    found = np.zeros_like(expected)
    np.put_along_axis(found, outputs["patch_indices"], outputs["patch_values"], axis=2)
    assert np.allclose(found, expected, atol=1e-5)
    if opened.manifest.architecture.pool == "patch_mean":
        whole = SparseCodes.from_topk(outputs["indices"], outputs["values"], concepts=CONCEPTS)
        assert np.allclose(found.mean(axis=1), whole.to_dense(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_batch_is_free_and_rows_are_independent(opened: Bundle, count: int) -> None:
    x = pixels(opened)
    all_, some = run(opened, "image.onnx", x), run(opened, "image.onnx", x[:count])
    assert all(len(v) == count for v in some.values())
    for name in ("values", "norm", "dense"):
        assert np.allclose(some[name], all_[name][:count], atol=1e-5)


def test_dense_vectors_of_two_widths_are_not_shared(tiny_bundle: Path, other_bundle: Path) -> None:
    found = []
    for path in (tiny_bundle, other_bundle):
        architecture = open_bundle(path).manifest.architecture
        found.append((architecture.dense_dim, architecture.text_dense_dim, architecture.dense))
    assert found == [(16, 16, "shared"), (32, 48, None)]


def test_the_graphs_are_what_the_manifest_says(opened: Bundle) -> None:
    architecture = opened.manifest.architecture
    topk = {"image": architecture.image_topk, "text": architecture.text_topk}
    for kind in ("image", "text", "patches"):
        path = opened.file(f"{kind}.onnx")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        assert given.name == ("tokens" if kind == "text" else "pixels")
        shape = [architecture.context_length] if kind == "text" else [3, SIDE, SIDE]
        assert isinstance(given.shape[0], str)
        assert given.shape[1:] == shape
        outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
        k = topk.get(kind, architecture.image_topk)
        dense = architecture.text_dense_dim if kind == "text" else architecture.dense_dim
        rows = {
            "indices": ("tensor(int64)", [k]),
            "values": ("tensor(float)", [k]),
            "active": ("tensor(int64)", []),
            "norm": ("tensor(float)", []),
            "dense": ("tensor(float)", [dense]),
        }
        patches = {
            "patch_indices": ("tensor(int64)", [16, architecture.patch_topk]),
            "patch_values": ("tensor(float)", [16, architecture.patch_topk]),
            "patch_active": ("tensor(int64)", [16]),
        }
        assert outputs == (rows | patches if kind == "patches" else rows)


def test_nothing_of_this_machine_is_in_the_files(opened: Bundle) -> None:
    here = str(ROOT).encode()
    for name in opened.manifest.files:
        data = opened.file(name).read_bytes()
        assert b"site-packages" not in data
        assert here not in data


def test_half_storage(tiny_bundle: Path, other_bundle: Path) -> None:
    kinds = []
    for path in (tiny_bundle, other_bundle):
        graph = onnx.load(path / "image.onnx").graph
        weights = [t for t in graph.initializer if numpy_helper.to_array(t).size >= 512]
        assert weights
        kinds.append({t.data_type for t in weights} - {TensorProto.INT64})
    assert kinds == [{TensorProto.FLOAT16}, {TensorProto.FLOAT}]


def test_the_model_that_was_given_is_not_changed(tmp_path: Path) -> None:
    model = tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(BundleExportError):
        export(model, tmp_path, golden=GoldenInputs(images=[], texts=TEXTS))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_rounded_weights_are_close(tiny_bundle: Path) -> None:
    shipped, trained = load_weights(open_bundle(tiny_bundle)).state_dict(), tiny_model()
    for name, value in trained.state_dict().items():
        assert torch.allclose(shipped[name], value, rtol=1e-3, atol=1e-6), name
    assert torch.equal(shipped["log_scale"], trained.log_scale)


def test_an_overflow_is_counted(tmp_path: Path, tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)
    graph = onnx.load(opened.file("text.onnx"))
    (topk,) = (n for n in graph.graph.node if n.op_type == "TopK")
    for tensor in graph.graph.initializer:
        if tensor.name == topk.input[1]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([4], dtype=np.int64), tensor.name))
    for value in (*graph.graph.output, *graph.graph.value_info):
        if value.name in topk.output:
            value.type.tensor_type.shape.dim[1].dim_value = 4
    tokens = opened.tokenizer.encode(TEXTS)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    cut = dict(zip(names, session.run(None, {"tokens": tokens}), strict=True))
    whole = run(opened, "text.onnx", tokens)
    assert np.array_equal(cut["active"], whole["active"])
    assert (cut["active"] > 4).all()
    assert np.array_equal(cut["norm"], whole["norm"])
    assert np.array_equal(cut["indices"], whole["indices"][:, :4])


def export(model: SparseCLIP, models: Path, **changes: Any) -> Path:
    """`export_tiny` with some of its arguments changed."""
    arguments: dict[str, Any] = {
        "preprocessing": tiny_preprocessing(),
        "concepts": tiny_concepts(),
        "training_record": open_record(),
        "models_dir": models,
        "name": "tiny",
        "version": "1",
        "golden": GoldenInputs(images=tiny_images(), texts=TEXTS),
        "card_text": "card\n",
        "licence_text": "licence\n",
    }
    return export_bundle(model, tiny_tokenizer(), **arguments | changes)


def open_record() -> Any:
    from bundle.manifest import Training

    return Training(recipe="t", data="none", pairs=0, epochs=0.0, samples_seen=0, seed=0)


def test_what_does_not_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    from training.model.tokenizer import CaptionTokenizer

    model = tiny_model()
    silent = tiny_model()
    silent.config = dataclasses.replace(silent.config, relu=False)
    large = tiny_model()
    with torch.no_grad():
        large.text_head.project.weight[0, 0] = 1e6
    for given, changes, message in (
        (silent, {}, "^model: has no ReLU"),
        (large, {}, r"^text_head\.project\.weight: does not fit float16"),
        (model, {"concepts": tiny_concepts()[:-1]}, "^concepts: 255 for a model of 256"),
        (model, {"golden": GoldenInputs(images=tiny_images(), texts=())}, "^golden: "),
        (
            model,
            {"preprocessing": dataclasses.replace(tiny_preprocessing(), size=64)},
            "^preprocessing.size: must be 32",
        ),
    ):
        with pytest.raises(BundleExportError, match=message):
            export(given, tmp_path, **changes)
    with pytest.raises(BundleExportError, match="^tokenizer: has another vocabulary"):
        export_bundle(
            model,
            CaptionTokenizer.of_size(601, 16),
            preprocessing=tiny_preprocessing(),
            concepts=tiny_concepts(),
            training_record=open_record(),
            models_dir=tmp_path,
            name="tiny",
            version="1",
            golden=GoldenInputs(images=tiny_images(), texts=TEXTS),
            card_text="",
            licence_text="",
        )
    assert list(tmp_path.iterdir()) == []
