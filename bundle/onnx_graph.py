"""A bundle's graphs in ONNX Runtime: their inputs and outputs, and sessions that run them.

B batch, T tokens, P patches, S image side, K slots of a row's TopK, Kp slots of a patch's, D CLIP
width.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GraphName = Literal["image", "text", "patches"]

GRAPHS: tuple[GraphName, ...] = ("image", "text", "patches")
"""All that a model may have. One without patches has no graph of them."""

ROW_OUTPUTS = ("indices", "values", "active", "norm", "dense")
"""Outputs of every graph of a sparse model, of shapes (B, K), (B, K), (B,), (B,) and (B, D)."""

PATCH_OUTPUTS = ("patch_indices", "patch_values", "patch_active")
"""Further outputs of the graph `patches`, of shapes (B, P, Kp), (B, P, Kp) and (B, P)."""

OUTPUTS: dict[GraphName, tuple[str, ...]] = {
    "image": ROW_OUTPUTS,
    "text": ROW_OUTPUTS,
    "patches": (*ROW_OUTPUTS, *PATCH_OUTPUTS),
}
"""Outputs of the graphs of a sparse model."""

DENSE_OUTPUTS: dict[GraphName, tuple[str, ...]] = {
    "image": ("dense",),
    "text": ("dense",),
    "patches": ("dense", "patch_dense"),
}
"""Outputs of the graphs of a dense model, of shapes (B, D) and (B, P, D). `patch_dense` holds what
the pooled vector would be if the tower pooled one patch alone."""

INPUT: dict[GraphName, str] = {"image": "pixels", "text": "tokens", "patches": "pixels"}
"""Pixels are float32 (B, 3, S, S), tokens int64 (B, T)."""

CPU = ("CPUExecutionProvider",)


def import_onnxruntime() -> ModuleType:
    """Imports ONNX Runtime, with its telemetry turned off."""
    # It would begin at the import, and leave a file `.ses` in the temporary folder.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module


class OnnxGraph:
    """One graph of a bundle in a session of ONNX Runtime."""

    def __init__(
        self,
        path: Path,
        graph: GraphName,
        *,
        threads: int = 0,
        providers: Sequence[Any] = CPU,
        settings: dict[str, Any] | None = None,
        config_entries: dict[str, str] | None = None,
        sparse: bool = True,
    ) -> None:
        """Loads the file `path` as the graph `graph` of a model that is sparse, or dense.

        With 0 `threads` ONNX Runtime chooses their number. `settings` are attributes of its
        SessionOptions and `config_entries` are configuration entries. Raises ValueError for a file
        whose inputs or outputs are not those of this graph, and whatever ONNX Runtime raises for a
        file that it cannot load.
        """
        library = import_onnxruntime()
        options = library.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        for name, value in (settings or {}).items():
            setattr(options, name, value)
        for name, text in (config_entries or {}).items():
            options.add_session_config_entry(name, text)
        self.name: GraphName = graph
        self.outputs = (OUTPUTS if sparse else DENSE_OUTPUTS)[graph]
        # It would take the CPU, and print so, where the preferred provider fails.
        self.session: Any = library.InferenceSession(
            str(path), options, providers=list(providers), enable_fallback=0
        )
        inputs = [entry.name for entry in self.session.get_inputs()]
        outputs = {entry.name for entry in self.session.get_outputs()}
        if inputs != [INPUT[graph]] or not outputs.issuperset(self.outputs):
            raise ValueError(f"{graph}.onnx: other inputs or outputs than a bundle has")

    @property
    def providers(self) -> list[str]:
        """The execution providers that the session uses, the preferred one first."""
        names: list[str] = self.session.get_providers()
        return names

    def run(self, inputs: NDArray[Any], outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """Runs a batch of inputs. Returns the named outputs by name; without names, all of them."""
        names = list(outputs or self.outputs)
        arrays = self.session.run(names, {INPUT[self.name]: inputs})
        return dict(zip(names, arrays, strict=True))

    def codes(self, inputs: NDArray[Any], concepts: int) -> NDArray[np.float32]:
        """Runs a batch of inputs. Returns its codes (B, C) float32 for C concepts."""
        topk = self.run(inputs, ("indices", "values"))
        codes = np.zeros((len(inputs), concepts), dtype=np.float32)
        np.put_along_axis(codes, topk["indices"], topk["values"], axis=1)
        return codes
