"""A bundle's graphs in ONNX Runtime: their shapes, and files that are other graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.onnx_graph import OUTPUTS, PATCH_OUTPUTS, OnnxGraph
from bundle.store import Bundle, open_bundle


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def pixels(tiny: Bundle, count: int) -> np.ndarray:
    size = tiny.manifest.preprocessing.size
    return np.random.default_rng(0).normal(size=(count, 3, size, size)).astype(np.float32)


def test_every_output_has_its_shape(tiny: Bundle) -> None:
    graph = OnnxGraph(tiny.file("patches.onnx"), "patches", threads=1)
    architecture = tiny.manifest.architecture
    rows, columns = architecture.patch_grid
    outputs = graph.run(pixels(tiny, 2))
    assert set(outputs) == set(OUTPUTS["patches"])
    assert outputs["indices"].shape == outputs["values"].shape == (2, architecture.image_topk)
    assert outputs["active"].shape == outputs["norm"].shape == (2,)
    assert outputs["dense"].shape == (2, architecture.dense_dim)
    for name in PATCH_OUTPUTS[:2]:
        assert outputs[name].shape == (2, rows * columns, architecture.patch_topk)
    assert outputs["patch_active"].shape == (2, rows * columns)


def test_only_the_named_outputs_are_given(tiny: Bundle) -> None:
    graph = OnnxGraph(tiny.file("image.onnx"), "image", threads=1)
    assert set(graph.run(pixels(tiny, 1), ("norm",))) == {"norm"}
    assert graph.providers == ["CPUExecutionProvider"]


def test_codes_are_the_topk_with_zeros_between(tiny: Bundle) -> None:
    graph = OnnxGraph(tiny.file("text.onnx"), "text", threads=1)
    tokens = tiny.tokenizer.encode(["a dog", "red"])
    codes = graph.codes(tokens, tiny.manifest.architecture.concepts)
    assert codes.shape == (2, tiny.manifest.architecture.concepts)
    outputs = graph.run(tokens)
    np.testing.assert_array_equal((codes > 0).sum(axis=1), (outputs["values"] > 0).sum(axis=1))
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), outputs["norm"], rtol=1e-5)


def test_another_graph_is_refused(tiny: Bundle) -> None:
    for name, graph in (("image", "text"), ("text", "image"), ("image", "patches")):
        with pytest.raises(ValueError, match=f"{graph}.onnx: other inputs or outputs"):
            OnnxGraph(tiny.file(f"{name}.onnx"), graph)  # type: ignore[arg-type]


def test_settings_reach_the_session(tiny: Bundle) -> None:
    with pytest.raises(AttributeError, match="no_such_setting"):
        OnnxGraph(tiny.file("image.onnx"), "image", settings={"no_such_setting": 1})
