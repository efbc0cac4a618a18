"""int8 for ONNX Runtime: weights are stored as int8, activations are rounded in each run.

The ranges of activations are those of the batch at hand, so no images are needed to build it.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

from serving.engines._regions import onnx_regions
from serving.engines._typed_graph import simplified
from serving.engines.base import BuildTask, EngineError, EngineUnavailableError


def quantize(task: BuildTask, target: Path) -> None:
    """Writes a graph whose matrix products run in int8, without those of the regions it keeps.

    Convolutions stay in fp32: onnxruntime's int8 ones without fixed ranges are slower than those.
    Raises EngineError.
    """
    try:
        onnx = importlib.import_module("onnx")
        quantization = importlib.import_module("onnxruntime.quantization")
    except ModuleNotFoundError as error:
        raise EngineUnavailableError(
            f"engine.precision: int8 needs {error.name}: pip install 'sparseclip[quantize]'"
        ) from None
    # Weights that a bundle stores as fp16 become constants in fp32: others are not quantized.
    model = simplified(task.bundle.file(f"{task.graph}.onnx"), task.folder)
    # The library transposes weights of Gemm and keeps their names: shapes would be told twice.
    weights = {entry.name for entry in model.graph.initializer}
    shapes = [entry for entry in model.graph.value_info if entry.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    regions = onnx_regions(model)
    kept = set().union(*(regions[region] for region in task.kept))
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises steps that change nothing here
    try:
        quantization.quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=sorted(kept),
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    except Exception as error:  # the library has no class of its own
        raise EngineError(f"{task.graph}: onnxruntime cannot quantize it: {error}") from error
    finally:
        logger.setLevel(level)

    if not any(node.op_type == "MatMulInteger" for node in onnx.load(target).graph.node):
        raise EngineError(f"{task.graph}: it has no matrix product that int8 would make faster")
