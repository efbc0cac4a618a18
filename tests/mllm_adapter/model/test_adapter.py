"""Adapters on disk: written, read back, and refused with the name of file and field."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mllm_adapter.model.adapter import AdapterConfig, AdapterError, open_adapter, write_adapter
from mllm_adapter.model.projector import Cells, Projector

CONFIG = AdapterConfig(concepts=12, patches=4, width=64, backbone="tiny/1", system="Look.")


@pytest.fixture
def folder(tmp_path: Path, llama: Path) -> Path:
    torch.manual_seed(0)
    write_adapter(tmp_path, CONFIG, Projector(12, 64))
    shutil.copytree(llama, tmp_path / "llm")
    return tmp_path


def test_an_adapter_is_read_as_it_was_written(folder: Path) -> None:
    torch.manual_seed(0)
    written = Projector(12, 64).half()
    adapter = open_adapter(folder)
    assert adapter.config == CONFIG
    assert adapter.config.visual_tokens == 5
    assert adapter.llm == folder / "llm"
    assert not adapter.projector.training
    for name, tensor in adapter.projector.state_dict().items():
        assert torch.equal(tensor, written.state_dict()[name].float()), name


def test_cells_are_read_back(folder: Path) -> None:
    cells = Cells(patches=(2, 2), grid=(1, 2))
    config = replace(CONFIG, cells=cells)
    torch.manual_seed(0)
    written = Projector(12, 64, cells)
    write_adapter(folder, config, written)
    adapter = open_adapter(folder)
    assert adapter.config == config
    assert adapter.config.visual_tokens == 3
    codes = torch.rand(1, 4, 12)
    torch.testing.assert_close(adapter.projector(codes), written(codes), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": {"patches": [3, 3], "grid": [1, 1]}}, "cells.patches: must be 4 in all"),
        ({"cells": {"patches": [2, 2], "grid": [3, 1]}}, r"cells.grid: .* \(2, 2\)"),
        ({"cells": {"patches": [2, 2], "grid": [0, 1]}}, r"cells.grid\[0\]: "),
        ({"llm": "smollm3"}, "llm: must be one of llm, smollm2"),
        ({"schema": 2}, "schema: this version reads schema 1 only"),
        ({"patch": 4}, "patch: unknown key; did you mean patches"),
        ({"width": "8"}, "width: "),
        ({"width": 32}, "width: 32, and the language model's hidden_size is 64"),
    ],
)
def test_a_bad_field_is_named(folder: Path, change: dict[str, object], message: str) -> None:
    data = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps(data | change))
    with pytest.raises(AdapterError, match=f"^adapter.json: {message}"):
        open_adapter(folder)


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    write_adapter(folder, CONFIG, Projector(12, 63))
    with pytest.raises(AdapterError, match=r"^projector.safetensors: not the weights that"):
        open_adapter(folder)
    (folder / "projector.safetensors").write_bytes(b"not tensors")
    with pytest.raises(AdapterError, match=r"^projector.safetensors: not the weights that"):
        open_adapter(folder)
    (folder / "adapter.json").write_text("{")
    with pytest.raises(AdapterError, match=r"^adapter.json: not JSON"):
        open_adapter(folder)
    (folder / "adapter.json").unlink()
    with pytest.raises(AdapterError, match=r"^adapter.json: cannot be read"):
        open_adapter(folder)
