"""Files of weights: of tensors alone, and of exactly those that a model has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.huggingface.model_error import ModelImportError
from training.huggingface.stored_weights import weights_digest
from training.importing._weight_files import load_fitting, read_weights

MODEL = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


class Tripwire:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    sprung = tmp_path / "sprung"
    for content in (Tripwire(sprung), {"state_dict": MODEL, "optimizer": Tripwire(sprung)}):
        torch.save(content, tmp_path / f"weights{suffix}")
        with pytest.raises(ModelImportError, match="holds more than tensors"):
            read_weights(tmp_path / f"weights{suffix}")
    assert not sprung.exists()
    # The file would have sprung the tripwire: the test can fail.
    torch.load(tmp_path / f"weights{suffix}", weights_only=False)
    assert sprung.exists()


@pytest.mark.parametrize("wrapped", [MODEL, {"state_dict": MODEL, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_scripts_file_is_read(
    tmp_path: Path, wrapped: dict[str, Any], prefix: str
) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in MODEL.items()}
    content = wrapped | {"state_dict": tensors} if "state_dict" in wrapped else tensors
    torch.save(content, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt").keys() == MODEL.keys()


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("w.npz", b"x"), ("w.pt", b"x"), ("w.safetensors", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelImportError):
            read_weights(tmp_path / name)
    for value in ([1], {}, {"weight": 3}):
        torch.save(value, tmp_path / "w.pt")
        with pytest.raises(ModelImportError, match="tensor"):
            read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "bias is missing"),
        ({"scale": torch.ones(1)}, "scale is not a tensor of this architecture"),
        ({"weight": torch.ones(3, 2)}, r"weight has the shape \(3, 2\), not \(2, 3\)"),
        ({"bias": torch.zeros(2, dtype=torch.int8)}, r"bias is quantised \(torch.int8\)"),
        ({"bias": torch.tensor([0.0, torch.nan])}, "bias has values that are not finite"),
    ],
)
def test_weights_fit_exactly_or_are_refused(change: dict[str, Any], message: str) -> None:
    weights = {name: value for name, value in (MODEL | change).items() if value is not None}
    model = nn.Linear(3, 2)
    before = model.weight.clone()
    with pytest.raises(ModelImportError, match=message):
        load_fitting(model, weights)
    assert torch.equal(model.weight, before)
    load_fitting(model, MODEL)
    assert torch.equal(model.weight, MODEL["weight"])


def test_the_digest_is_the_files_own_and_of_several_their_digests(tmp_path: Path) -> None:
    paths = [tmp_path / "b.safetensors", tmp_path / "a.safetensors"]
    for path in paths:
        save_file({path.name: torch.ones(1)}, path)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)]
    assert weights_digest(paths[1:]) == digests[0]
    assert weights_digest(paths) == hashlib.sha256("\n".join(digests).encode()).hexdigest()
