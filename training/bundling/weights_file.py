"""weights.safetensors of a bundle: the torch model's weights, but for those that a graph holds.

Most of a bundle with a frozen text encoder would be a second copy of what its graphs hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bundle.store import Bundle
from bundle.tensor_errors import tensor_writes
from training.model.sentence_tower import SentenceTower
from training.model.sparse_clip import SparseCLIP
from training.model.stored_tensors import stored_tensors

WEIGHTS_FILE = "weights.safetensors"

_GRAPHS = ("text.onnx", "image.onnx")

_KEY = "in graphs"
"""The key of the file's metadata with a JSON object: names of weights to a graph's file and their
name in it."""

_TRANSPOSED = "transposed "
"""Comes before the name of a matrix that the graph has transposed, for its product."""


def is_rounded(tensor: Tensor) -> bool:
    """Whether float16 storage rounds a tensor. Single numbers (the logit scale, counters) stay
    exact, as that costs no space."""
    return tensor.is_floating_point() and tensor.ndim > 0


def write_weights(model: SparseCLIP, folder: Path, *, half: bool) -> None:
    """Writes the weights of a model, whose graphs are in `folder`, as they are shipped."""
    tensors = {
        name: (tensor.half() if half and is_rounded(tensor) else tensor).contiguous()
        for name, tensor in stored_tensors(model).items()
        if not name.startswith("loss_parameters.")
    }
    in_graph: dict[str, tuple[str, str]] = {}
    if isinstance(model.text, SentenceTower) and model.text.frozen:
        found: dict[tuple[tuple[int, ...], bytes], tuple[str, str]] = {}
        for graph in _GRAPHS:
            for name, values in _graph_weights(folder / graph).items():
                found.setdefault(_digest(values), (graph, name))
                if values.ndim == 2:
                    found.setdefault(_digest(values.T), (graph, _TRANSPOSED + name))
        for name in [name for name, tensor in tensors.items() if is_rounded(tensor)]:
            digest = _digest(tensors[name].detach().float().numpy())
            if digest in found:
                in_graph[name] = found[digest]
                del tensors[name]
    metadata = {_KEY: json.dumps(in_graph)} if in_graph else None
    with tensor_writes():
        save_file(tensors, folder / WEIGHTS_FILE, metadata)


def weights_of(bundle: Bundle) -> dict[str, Tensor]:
    """All weights of the model by name; numbers that are not integers in float32."""
    path = bundle.file(WEIGHTS_FILE)
    with safe_open(path, framework="pt") as file:
        in_graph: Mapping[str, tuple[str, str]] = json.loads(
            (file.metadata() or {}).get(_KEY, "{}")
        )
    weights = load_file(path)
    graphs = {graph for graph, _ in in_graph.values()}
    values = {graph: _graph_weights(bundle.file(graph)) for graph in graphs}
    weights |= {name: _weight(values[graph], there) for name, (graph, there) in in_graph.items()}
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


def _graph_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The numbers that an ONNX file holds, by name, in float32."""
    import onnx
    from onnx.numpy_helper import to_array

    weights = {}
    for tensor in onnx.load(path).graph.initializer:
        values = to_array(tensor)
        if values.dtype in (np.float16, np.float32):
            weights[tensor.name] = values.astype(np.float32)
    return weights


def _weight(values: Mapping[str, NDArray[np.float32]], name: str) -> Tensor:
    """The weight that the graph has by a name. A copy: the graph may hold one for several."""
    found = values[name.removeprefix(_TRANSPOSED)]
    return torch.from_numpy(found.T if name.startswith(_TRANSPOSED) else found).clone()


def _digest(values: NDArray[np.float32]) -> tuple[tuple[int, ...], bytes]:
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()
