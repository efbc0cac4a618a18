"""A dense bundle becomes a sparse one: the command from end to end, and the graphs of patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from bundle.onnx_graph import OnnxGraph
from bundle.store import open_bundle
from serving.cli.main import main
from tests.support.paths import ICONS
from tests.support.tiny_model import tiny_images
from tests.training.sparsify.heads.test_heads import WIDTH, build_head, head_data, recipe
from training.bundling.onnx_graphs import TopK
from training.sparsify.embeddings.dense_encoder import unit_rows
from training.sparsify.head_figures import NameFigures
from training.sparsify.heads.base import CodeHead
from training.sparsify.job import warn_of_empty, warn_of_names
from training.sparsify.onnx_heads import as_served, write_sparse_graphs

SIDE, PATCH = 8, 4


def test_the_command_writes_a_sparse_bundle(
    dense_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("circle\nsquare\nRed Heart\n")
    arguments = ["sparsify", str(dense_bundle.parent), str(ICONS), "--name", "thin"]
    options = {
        "--models": tmp_path / "models",
        "--head": "distill",
        "--compare": "contrastive",
        "--vocabulary": words,
        "--coverage": tmp_path / "coverage.json",
        "--concepts": 96,
        "--l0": 0.1,
        "--steps": 3,
        "--batch-size": 16,
        "--output": tmp_path / "run",
        "--cache": tmp_path / "cache",
    }
    arguments += [str(part) for pair in options.items() for part in pair]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    bundle = open_bundle(tmp_path / "models" / "thin")
    manifest, architecture = bundle.manifest, bundle.manifest.architecture
    assert (manifest.kind, architecture.concepts, architecture.head) == ("sparse", 96, "stacked")
    assert manifest.origin is not None
    assert manifest.origin.teacher == "dense/1"
    assert manifest.training is not None
    assert manifest.training.recipe == "sparsify:distill"
    assert len(bundle.concepts) == 96
    assert bundle.captions is not None
    assert bundle.captions.nearest(np.array([0]), np.array([1.0]), 1) is not None
    # The same vectors as the dense bundle's, and codes of them beside.
    tokens = bundle.tokenizer.encode(["a red circle", "dog"])
    sparse = OnnxGraph(bundle.file("text.onnx"), "text").run(tokens)
    dense = OnnxGraph(dense_bundle / "text.onnx", "text", sparse=False).run(tokens)
    np.testing.assert_array_equal(sparse["dense"], dense["dense"])
    assert sparse["active"].max() <= 96
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert set(report["heads"]) == {"distill", "contrastive"}
    figures = report["heads"]["distill"]["splits"]["test_style"]
    assert figures["images"] == report["dense"]["test_style"]["images"] == 16
    assert figures["untrained"]["image_sparsity"]["l0"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "distill, untrained" in page
    assert "<svg" in page
    coverage = json.loads((tmp_path / "coverage.json").read_text())
    assert [word["word"] for word in coverage["outcomes"]] == ["circle", "square", "red heart"]
    assert "words of the vocabulary" in result.stdout
    assert "train: 38 good pairs, 0 bad" in caplog.messages
    (tmp_path / "coverage.json").unlink()
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "thin/1: exists" in again.output
    more = [*arguments, "--version", "2", "--output", str(tmp_path / "few")]
    silent = CliRunner().invoke(main, [*more, "--l0", "0.000001"])
    assert silent.output.splitlines()[-1] == "Error: --l0: 1e-06 of 96 concepts is less than one"
    assert not (tmp_path / "models" / "thin" / "2").exists()
    # The folder of a report is nobody else's.
    (tmp_path / "run" / "mine.png").touch()
    foreign = CliRunner().invoke(main, [*arguments, "--version", "2"])
    assert foreign.output.splitlines()[-1].startswith("Error: --output: run is not empty")


def test_images_without_a_concept_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    codes = np.zeros((3, 8), dtype=np.float32)
    codes[1, 2] = 1
    warn_of_empty("distill", codes)
    warn_of_empty("distill", np.ones((3, 8), dtype=np.float32))
    [line] = caplog.messages
    assert line.startswith("head distill: no concept answers to 2 of 3 training images")


def test_names_that_are_no_better_than_chance_are_said(caplog: pytest.LogCaptureFixture) -> None:
    def names(confidence: float | None) -> NameFigures:
        return NameFigures(concepts=8, active=8, named=8, trusted=0, mean_confidence=confidence)

    warn_of_names("topk_sae", names(0.1), names(0.17))
    for certain, chance in ((0.3, 0.17), (None, 0.17), (0.3, None)):
        warn_of_names("distill", names(certain), names(chance))
    [line] = caplog.messages
    assert line.startswith("head topk_sae: its names are no better than an untrained head's")


def test_images_alone_suffice(
    dense_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(tiny_images() * 4):
        image.save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.md").write_text("x")
    words = tmp_path / "words.txt"
    words.write_text("circle\nsquare\nred heart\n")
    arguments = ["sparsify", str(dense_bundle), str(folder), "--name", "alone", "--images-only"]
    arguments += ["--models", str(tmp_path / "models"), "--concepts", "32", "--l0", "0.2"]
    arguments += ["--steps", "2", "--batch-size", "8", "--cache", str(tmp_path / "cache")]
    arguments += ["--output", str(tmp_path / "run")]
    for more, problem in (
        ([], "head contrastive: needs captions"),
        (["--head", "topk_sae"], "head topk_sae: needs captions"),
        (["--head", "distill"], "--images-only: wants --vocabulary"),
        (["--head", "distill", "--split", "train"], "--split goes without --images-only"),
    ):
        refused = CliRunner().invoke(main, [*arguments, *more])
        assert refused.exit_code in (1, 2)
        assert problem in refused.output
    arguments += ["--head", "distill", "--vocabulary", str(words)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    bundle = open_bundle(tmp_path / "models" / "alone")
    assert bundle.captions is None
    assert any(
        concept.name.split(" (")[0] in "circle square red heart"
        for concept in bundle.concepts.concepts
    )
    assert all(concept.name_confidence is None for concept in bundle.concepts.concepts)
    number = 4 * len(tiny_images())
    assert f"all: {number} good pairs, 1 bad" in caplog.messages, "none is held out"
    left_out = "images: files that belong to no pair, by ending: {'.md': 1}"
    assert left_out in caplog.messages


def test_bad_choices_are_refused_in_one_line(
    dense_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    common = ["--name", "x", "--models", str(tmp_path), "--output", str(tmp_path / "run")]
    cases = (
        ([str(dense_bundle), str(ICONS), "--head", "contrast"], "did you mean contrastive?"),
        ([str(tiny_bundle), str(ICONS)], "is sparse already"),
        ([str(dense_bundle), str(ICONS), "--split", "trian"], "has no split"),
    )
    for arguments, message in cases:
        result = CliRunner().invoke(main, ["sparsify", *arguments, *common])
        assert result.exit_code == 1
        assert message in result.output
        assert len(result.output.strip().splitlines()) <= 2  # the other is on clarity


def patch_graph(folder: Path) -> Path:
    """A dense graph with patches: each is projected, and their mean is the image's vector."""
    weight = np.random.default_rng(0).normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32)
    shape = np.array([0, WIDTH, -1], dtype=np.int64)
    nodes = [
        helper.make_node("Conv", ["pixels", "weight"], ["values"], strides=[PATCH, PATCH]),
        helper.make_node("Reshape", ["values", "shape"], ["norm"]),
        helper.make_node("Transpose", ["norm"], ["patch_dense"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["patch_dense"], ["dense"], axes=[1], keepdims=0),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    outputs = [
        helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", WIDTH]),
        helper.make_tensor_value_info("patch_dense", TensorProto.FLOAT, ["batch", 4, WIDTH]),
    ]
    tensors = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(shape, "shape")]
    graph = helper.make_graph(nodes, "patches", [pixels], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "dense.onnx"
    onnx.save_model(model, path)
    return path


def some_head() -> CodeHead:
    data = head_data()
    return as_served(build_head(recipe("distill", data), data))


def test_patches_have_codes_of_the_same_head(tmp_path: Path) -> None:
    head, source = some_head(), patch_graph(tmp_path)
    write_sparse_graphs(head, {"patches": source}, TopK(image=64, text=64, patch=64), tmp_path)
    pixels = np.random.default_rng(1).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    dense = OnnxGraph(source, "patches", sparse=False).run(pixels)
    outputs = OnnxGraph(tmp_path / "patches.onnx", "patches").run(pixels)
    for name, rows in (("", dense["dense"]), ("patch_", dense["patch_dense"].reshape(12, -1))):
        with torch.no_grad():
            expected = head.image(torch.from_numpy(unit_rows(rows))).numpy()
        codes = np.zeros_like(expected)
        indices = outputs[f"{name}indices"].reshape(len(rows), -1)
        np.put_along_axis(codes, indices, outputs[f"{name}values"].reshape(len(rows), -1), 1)
        np.testing.assert_allclose(codes, expected, atol=1e-5)
        np.testing.assert_array_equal(outputs[f"{name}active"].ravel(), (expected > 0).sum(1))
    np.testing.assert_allclose(outputs["dense"], dense["dense"], atol=1e-5)


def test_a_vector_of_zeros_has_finite_codes(tmp_path: Path) -> None:
    head, source = some_head(), patch_graph(tmp_path)
    write_sparse_graphs(head, {"patches": source}, TopK(image=64, text=64, patch=64), tmp_path)
    zeros = np.zeros((1, 3, SIDE, SIDE), dtype=np.float32)
    outputs = OnnxGraph(tmp_path / "patches.onnx", "patches").run(zeros)
    assert all(np.isfinite(value).all() for value in outputs.values())
