"""The frozen layers of an image tower as one function, which a CPU runs in OpenVINO.

V views, S image side.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bundle.atomic import work_directory
from bundle.openvino_library import import_quietly
from training.core.onnx_file import write_onnx
from training.core.precision import Precision, autocast
from training.model.towers import ImageTower

FrozenLayers = Callable[[Tensor], Tensor]
"""Pixels (V, 3, S, S) to the output of `ImageTower.frozen` for them."""


def frozen_layers(tower: ImageTower, precision: Precision, device: torch.device) -> FrozenLayers:
    """The layers of a tower before the first one that learns.

    On a CPU those of a convolutional trunk run in OpenVINO, in float32 whatever the precision. That
    takes a quarter of torch's time, and torch takes twice as long in bf16 for depthwise
    convolutions. Raises ValueError for a tower that cannot be cut there.
    """
    if device.type == "cpu" and not tower.is_vit:
        return _in_openvino(tower)

    def run(pixels: Tensor) -> Tensor:
        with autocast(precision, device):
            return tower.frozen(pixels).cpu()

    return run


class _Frozen(nn.Module):
    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower.frozen_map(pixels)


def _in_openvino(tower: ImageTower) -> FrozenLayers:
    openvino = import_quietly("openvino")
    side = tower.image_size
    with work_directory() as folder:
        path = Path(folder) / "frozen.onnx"
        example = torch.zeros(2, 3, side, side)
        write_onnx(_Frozen(tower), example, "pixels", ("hidden",), path, half=False)
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", hints)

    def run(pixels: Tensor) -> Tensor:
        # A copy: the library writes the next result to the same place.
        return torch.from_numpy(compiled(pixels.contiguous().numpy())[0].copy())

    return run
