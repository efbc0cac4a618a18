"""A graph with its large products in bf16 or fp16, typed by explicit casts.

TensorRT 11 takes precisions from the graph alone, and the CUDA kernels of ONNX Runtime and torch
follow it as well: one typed graph serves all three.

In low precision: convolutions, products with weights, attention's weighted sum of values, and what
lies between such products (activations, biases, transposes). Their weights are stored so, too.

In fp32: attention's scores and softmax, normalisation, sums of two computed tensors (the residual
stream), the sparse head with its TopK, whatever is in neither list, and the regions of a recipe.
Scores in fp16 are what breaks a vision transformer in fp16 (NVIDIA/TensorRT issue 4723).

The graph's inputs and outputs keep their types.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.onnx_graph import CPU, import_onnxruntime
from serving.engines import EnginePrecision
from serving.engines._regions import NORMS, onnx_regions
from serving.engines.base import BuildTask, EngineError, Region

LOW_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})

FOLLOWING = frozenset(
    {
        "Add",
        "Clip",
        "Concat",
        "Div",
        "Elu",
        "Expand",
        "Flatten",
        "Gather",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mul",
        "Pad",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)
"""They run in low precision where all that they read, constants aside, is in low precision."""

_TO_SCORES = frozenset({"Add", "Cast", "Div", "Mul", "Reshape", "Sub", "Transpose", "Where"})
"""What may stand between attention's scores and their softmax."""
_SCALING = frozenset({"Div", "Mul"})
_SUMS = frozenset({"Add", "Sub"})
_SUFFIX = ".low"

_OPSET = 22
"""The first in which convolutions may be bf16. Of what 20 has, only GroupNormalization is another
operation there."""


def write_typed_graph(task: BuildTask) -> Path:
    """Writes GRAPH.onnx in the precision of a task into its folder. Raises EngineError."""
    target = task.folder / f"{task.graph}.onnx"
    try:
        onnx = importlib.import_module("onnx")
        model = simplified(task.bundle.file(f"{task.graph}.onnx"), task.folder)
        typed = _Typing(onnx, model, task.precision, task.kept).typed()
        onnx.save(typed, target)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"engine.precision: {task.precision} needs {error.name}, of the engine's extra"
        ) from None
    except EngineError:
        raise
    except Exception as error:  # the libraries have a class of their own for each failure
        raise EngineError(f"{task.graph}.onnx in {task.precision}: {error}") from error
    return target


def simplified(source: Path, folder: Path) -> Any:
    """The graph as an `onnx.ModelProto`, in fp32, with its constants computed and batch norms
    folded into convolutions, by ONNX Runtime. Leaves nothing in `folder`. Raises EngineError."""
    onnx = importlib.import_module("onnx")
    library = import_onnxruntime()
    options = library.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_BASIC
    target, weights = folder / "simplified.onnx", folder / "simplified.bin"
    options.optimized_model_filepath = str(target)
    # Weights that a bundle stores as fp16 grow here to fp32: in a file of their own, they may
    # outgrow the 2 GiB of a protobuf message.
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", weights.name
    )
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
    )
    try:
        library.InferenceSession(str(source), options, providers=list(CPU))
        # Types are inferred before weights are read: the inference takes no more than 2 GiB.
        model = onnx.shape_inference.infer_shapes(onnx.load(target, load_external_data=False))
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # onnxruntime has a class of its own for each failure
        raise EngineError(f"{source.name}: onnxruntime cannot rewrite it: {error}") from error
    finally:
        target.unlink(missing_ok=True)
        weights.unlink(missing_ok=True)
    used = {node.domain for node in model.graph.node}
    versions = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    return model


class _Typing:
    """One rewriting of a graph. The low form of a tensor `x` is `x.low`, the fp32 form is `x`."""

    def __init__(
        self, onnx: Any, model: Any, precision: EnginePrecision, kept: Sequence[Region]
    ) -> None:
        self._onnx = onnx
        self._model = model
        self._float: int = onnx.TensorProto.FLOAT
        self._low: int = getattr(
            onnx.TensorProto, {"bf16": "BFLOAT16", "fp16": "FLOAT16"}[precision]
        )
        graph = model.graph
        self._constants = {entry.name: entry for entry in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        tensors = (*graph.input, *graph.output, *graph.value_info)
        self._types = {entry.name: entry.type.tensor_type.elem_type for entry in tensors}
        self._types |= {name: entry.data_type for name, entry in self._constants.items()}
        regions = onnx_regions(model)
        names = set().union(regions["head"], regions["norms"], *(regions[name] for name in kept))
        # A node goes by its first output: names are optional.
        self._fp32 = {
            node.output[0] for node in graph.node if (node.name or node.output[0]) in names
        }
        self._fp32 |= {node.output[0] for node in self._scores()}
        self._forms: set[str] = {*self._constants, *(entry.name for entry in graph.input)}
        self._nodes: list[Any] = []

    def typed(self) -> Any:
        """The model with casts in place; it is the one that was given."""
        graph = self._model.graph
        for entry in self._model.opset_import:
            if entry.domain == "":
                entry.version = max(entry.version, _OPSET)
        lowered: set[str] = set()
        for node in graph.node:
            has_graphs = any(entry.type in (5, 10) for entry in node.attribute)  # GRAPH, GRAPHS
            if has_graphs or node.op_type == "GroupNormalization":
                raise EngineError(f"engine.precision: a graph with {node.op_type} stays in fp32")
            low = self._is_low(node, lowered)
            inputs = [
                self._form(name, low) if self._is_float(name) else name for name in node.input
            ]
            outputs = [
                name + _SUFFIX if low and self._is_float(name) else name for name in node.output
            ]
            lowered.update(name for name in node.output if low and self._is_float(name))
            copy = self._onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:], copy.output[:] = inputs, outputs
            self._nodes.append(copy)
            self._forms.update(outputs)
        for entry in graph.output:
            self._form(entry.name, low=False)
        self._replace_nodes()
        return self._model

    def _replace_nodes(self) -> None:
        graph = self._model.graph
        used = {name for node in self._nodes for name in node.input}
        weights = [entry for name, entry in self._constants.items() if name in used]
        for field, entries in (("node", self._nodes), ("initializer", weights), ("value_info", ())):
            graph.ClearField(field)
            getattr(graph, field).extend(entries)

    def _is_float(self, name: str) -> bool:
        kind = self._types.get(name, 0)
        if name and not kind:
            raise EngineError(f"engine.precision: the type of {name} is not known")
        if kind in (self._onnx.TensorProto.FLOAT16, self._onnx.TensorProto.BFLOAT16):
            raise EngineError(f"engine.precision: {name} of the bundle's graph is not in fp32")
        return bool(kind == self._float)

    def _is_low(self, node: Any, lowered: set[str]) -> bool:
        if node.output[0] in self._fp32 or node.op_type in NORMS:
            return False
        if node.op_type in LOW_PRODUCTS:
            return True
        read = [name for name in node.input if self._is_float(name) and name not in self._constants]
        # A sum of two computed tensors is the residual stream: each rounding of it stays.
        is_residual = node.op_type in _SUMS and len(read) > 1
        return (
            node.op_type in FOLLOWING
            and bool(read)
            and not is_residual
            and lowered.issuperset(read)
        )

    def _scores(self) -> list[Any]:
        """The products that lead to a softmax, and the scaling of what they multiply."""
        found = []
        open_nodes = [node for node in self._model.graph.node if node.op_type == "Softmax"]
        while open_nodes:
            for name in open_nodes.pop().input:
                node = self._makers.get(name)
                if node is None:
                    continue
                if node.op_type == "MatMul":
                    found.append(node)
                    found += [self._makers[name] for name in node.input if self._is_scaled(name)]
                elif node.op_type in _TO_SCORES:
                    open_nodes.append(node)
        return found

    def _is_scaled(self, name: str) -> bool:
        return name in self._makers and self._makers[name].op_type in _SCALING

    def _form(self, name: str, low: bool) -> str:
        """The name of a tensor's low or fp32 form, which is made where it is not there yet."""
        form = name + _SUFFIX if low else name
        if form in self._forms:
            return form
        self._forms.add(form)
        if name in self._constants:
            self._constants[form] = self._rounded(self._constants[name], form)
            return form
        other = name if low else name + _SUFFIX
        kind = self._low if low else self._float
        self._nodes.append(self._onnx.helper.make_node("Cast", [other], [form], form, to=kind))
        return form

    def _rounded(self, constant: Any, name: str) -> Any:
        values = self._onnx.numpy_helper.to_array(constant)
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(self._low)
        if self._low == self._onnx.TensorProto.FLOAT16:
            values = np.clip(values, *(np.finfo(np.float16).min, np.finfo(np.float16).max))
        return self._onnx.numpy_helper.from_array(values.astype(kind), name)
