"""Graphs in OpenVINO's format: quantized to int8, and with regions that stay in fp32."""

from __future__ import annotations

import contextlib
import logging
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from bundle.openvino_library import import_quietly
from serving.engines._regions import PRODUCTS, GraphNode, regions
from serving.engines.base import BuildTask, EngineUnavailableError, Region

_KEPT = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""OpenVINO's attribute of an operation that a lower inference precision leaves alone, bf16 as well
as f16 (transformations/rt_info/disable_precision_conversion.hpp). Python has no function for it, so
it is written into the file."""

_CONSTANTS = ("Const", "Parameter", "Result")


def quantized(model: Any, task: BuildTask) -> Any:
    """A model whose products run in int8, but those of the regions that the task keeps.

    NNCF finds the ranges on the task's calibration inputs (post-training quantization with
    SmoothQuant, as for transformers). Raises EngineUnavailableError without the library.
    """
    try:
        nncf: Any = import_quietly("nncf")
    except ModuleNotFoundError as error:
        raise EngineUnavailableError(
            f"engine.precision: int8 needs {error.name}: pip install 'sparseclip[quantize]'"
        ) from None
    assert task.calibration is not None
    nncf.set_log_level(logging.ERROR)
    items = task.calibration
    kinds = {op.get_friendly_name(): op.get_type_name() for op in model.get_ordered_ops()}
    kept = sorted(name for name in _named(model, task.kept) if kinds[name] in PRODUCTS)
    with contextlib.redirect_stdout(sys.stderr):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset(items, lambda item: item[None]),
            subset_size=len(items),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=kept),
        )


def keep_in_fp32(path: Path, kept: tuple[Region, ...]) -> None:
    """Marks the operations of the regions in a saved model, in place."""
    if not kept:
        return
    names = _named(import_quietly("openvino").Core().read_model(path), kept)
    tree = ElementTree.parse(path)
    for layer in tree.getroot().iter("layer"):
        if layer.get("name") in names and layer.get("type") not in _CONSTANTS:
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.SubElement(layer, "rt_info")
            ElementTree.SubElement(info, "attribute", _KEPT)
    tree.write(path)


def _named(model: Any, kept: tuple[Region, ...]) -> frozenset[str]:
    """The names of the operations of some regions."""
    nodes = [
        GraphNode(
            op.get_friendly_name(),
            op.get_type_name(),
            tuple(value.get_node().get_friendly_name() for value in op.input_values()),
        )
        for op in model.get_ordered_ops()
    ]
    found = regions(nodes)
    return frozenset().union(*(found[region] for region in kept))
