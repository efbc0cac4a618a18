"""Imports of open_clip and transformers, which import torchvision, on any build of torch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_definitions: list[torch.library.Library] = []


def open_clip() -> ModuleType:
    """Imports open_clip, also beside a CPU build of torch."""
    define_operators()
    return importlib.import_module("open_clip")


def transformers() -> ModuleType:
    """Imports transformers, also beside a CPU build of torch. Its bars would end up in logs."""
    define_operators()
    library = importlib.import_module("transformers")
    library.utils.logging.disable_progress_bar()
    return library


def define_operators() -> None:
    """Makes torchvision importable beside any build of torch.

    The registry's torchvision wheel is linked against CUDA. Beside a CPU build of torch its C++
    library does not load. Its Python part then fails to register shape functions for operators that
    do not exist ("operator torchvision::nms does not exist"). Defining the two schemas first is
    enough, because this project uses torchvision's transforms, but none of its operators.
    """
    if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "qnms(Tensor dets, Tensor scores, Tensor dets_scales, Tensor scores_scales,"
            " float iou_threshold) -> Tensor"
        )
        _definitions.append(library)  # the definitions last as long as this object
