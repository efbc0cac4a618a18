"""The speed of a plain matrix product on this CPU, by precision: what an engine's is compared with.

    python -m benchmarks.peak
    python -m benchmarks.peak --precisions fp32     # bf16 and int8 take minutes without AVX-512

One operation is one multiplication or one addition. The products are square. Each precision has the
fastest of its sizes, and fp32 the faster one of torch and ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import above
from bundle.onnx_graph import import_onnxruntime
from serving.engines.base import available_cores

PRECISIONS = ("fp32", "bf16", "int8")
SIZES = (1_024, 2_048)
Product = Callable[[], object]


def gigaflops(
    seconds: float, precisions: Collection[str] = PRECISIONS
) -> dict[str, dict[str, float]]:
    """10^9 operations per second by precision and library, at the faster size.

    Only of the `precisions` asked for: without instructions for it, a product takes minutes.
    """
    torch.set_num_threads(available_cores())
    products: dict[str, dict[str, Callable[[int], Product]]] = {
        "fp32": {"torch": _torch(torch.float32), "onnxruntime": _onnxruntime},
        "bf16": {"torch": _torch(torch.bfloat16)},
        "int8": {"torch": _torch_int8},
    }
    each = seconds / len(SIZES)
    return {
        precision: {
            library: round(max(2e-9 * n**3 * _rate(make(n), each) for n in SIZES), 1)
            for library, make in libraries.items()
        }
        for precision, libraries in products.items()
        if precision in precisions
    }


def _rate(product: Product, seconds: float) -> float:
    """Products per second."""
    product()
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        product()
        done += 1
    return done / elapsed


def _torch(kind: torch.dtype) -> Callable[[int], Product]:
    def make(n: int) -> Product:
        a, b = (torch.randn(n, n).to(kind) for _ in range(2))
        return lambda: torch.mm(a, b)

    return make


def _torch_int8(n: int) -> Product:
    a, b = (torch.randint(-128, 127, (n, n), dtype=torch.int8) for _ in range(2))
    return lambda: torch._int_mm(a, b)


def _onnxruntime(n: int) -> Product:
    from onnx import TensorProto, helper

    names = ("a", "b", "c")
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [n, n]) for name in names)
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "g", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    library: Any = import_onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = library.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {name: np.random.default_rng(0).random((n, n), dtype=np.float32) for name in "ab"}
    return lambda: session.run(None, inputs)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=above(0), default=2.0, help="for each product")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    given = parser.parse_args()
    print(json.dumps(gigaflops(given.seconds, given.precisions), indent=1))


if __name__ == "__main__":
    main()
