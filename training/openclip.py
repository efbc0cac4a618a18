"""The one door to open_clip, which imports torchvision."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def open_clip() -> ModuleType:
    """Imports open_clip, on a CPU build of torch too.

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
        _libraries.append(library)  # the definitions live as long as the object does
    return importlib.import_module("open_clip")


_libraries: list[torch.library.Library] = []
