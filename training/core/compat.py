"""The doors to open_clip and transformers, which import torchvision."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_definitions: list[torch.library.Library] = []


def open_clip() -> ModuleType:
    """open_clip, on a CPU build of torch too."""
    define_operators()
    return importlib.import_module("open_clip")


def transformers() -> ModuleType:
    """transformers, on a CPU build of torch too."""
    define_operators()
    return importlib.import_module("transformers")


def define_operators() -> None:
    """Lets torchvision be imported beside any build of torch.

    The torchvision wheel of the registry is linked against CUDA. Beside a CPU build of torch its
    C++ library does not load, and its Python side then fails to register shape functions for
    operators that nobody defined ("operator torchvision::nms does not exist"). Defining the two
    schemas first is enough: we use torchvision's transforms only, never its operators.
    """
    if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "qnms(Tensor dets, Tensor scores, Tensor dets_scales, Tensor scores_scales,"
            " float iou_threshold) -> Tensor"
        )
        _definitions.append(library)  # the definitions live as long as the object does
