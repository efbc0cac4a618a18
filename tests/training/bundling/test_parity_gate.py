"""The gate that graphs pass: fault F-32."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from bundle.store import Bundle, open_bundle
from tests.support.tiny_model import (
    SIDE,
    TEXTS,
    export_tiny,
    graphs_from,
    tiny_images,
    tiny_model,
)
from training.bundling.bundle_writer import (
    BundleExportError,
    load_weights,
)
from training.bundling.onnx_graphs import ROW_OUTPUTS, ImageGraph, TopK
from training.bundling.onnx_parity import ParityError, check_graphs
from training.core.onnx_file import write_onnx
from training.model.sparse_clip import SparseCLIP
from training.model.sparse_head import SparseHead


def pixels_of(opened: Bundle) -> NDArray[np.float32]:
    return np.stack([opened.preprocessor(image) for image in tiny_images()])


class Forgetful(SparseHead):
    """Loses a few concepts while it is being traced, as a wrong conversion would."""

    def codes(self, dense: torch.Tensor) -> torch.Tensor:
        codes = super().codes(dense)
        if torch.compiler.is_exporting():
            return torch.cat([torch.zeros_like(codes[..., :16]), codes[..., 16:]], dim=-1)
        return codes


def test_a_graph_that_disagrees_fails_the_export(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One graph is traced here, as each takes seconds."""

    def image_alone(model: SparseCLIP, topk: TopK, folder: Path, *, half: bool) -> None:
        graphs_from(tiny_bundle)(model, topk, folder, half=half)
        pixels, graph = torch.zeros(2, 3, SIDE, SIDE), ImageGraph(model, topk).eval()
        write_onnx(graph, pixels, "pixels", ROW_OUTPUTS, folder / "image.onnx", half=half)

    monkeypatch.setattr("training.bundling.bundle_writer.write_graphs", image_alone)
    model = tiny_model(pool="cls")
    model.image_head.__class__ = Forgetful
    with pytest.raises(BundleExportError, match=r"^image\.onnx: .*torch"):
        export_tiny(tmp_path, model=model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("graph", ["image.onnx", "text.onnx", "patches.onnx"])
def test_a_damaged_weight_fails_the_gate(tiny_bundle: Path, tmp_path: Path, graph: str) -> None:
    opened = open_bundle(tiny_bundle)
    for name in ("image.onnx", "text.onnx", "patches.onnx"):
        shutil.copy(opened.file(name), tmp_path / name)
    model, tokens = load_weights(opened), opened.tokenizer.encode(TEXTS)
    found = check_graphs(model, tmp_path, pixels_of(opened), tokens)
    assert min(p.min_cosine for p in found) > 0.99999
    assert min(p.min_support_jaccard for p in found) == 1
    assert [p.items for p in found] == [7, 6, 7 * 17]
    proto = onnx.load(tmp_path / graph)
    weight = max(proto.graph.initializer, key=lambda t: len(t.raw_data))
    array = numpy_helper.to_array(weight)
    noise = 1 + 0.1 * np.random.default_rng(0).standard_normal(array.shape)
    weight.CopyFrom(numpy_helper.from_array((array * noise).astype(array.dtype), weight.name))
    onnx.save(proto, tmp_path / graph)
    with pytest.raises(ParityError, match=f"^{graph}: "):
        check_graphs(model, tmp_path, pixels_of(opened), tokens)
