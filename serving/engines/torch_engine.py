"""torch as packages of AOTInductor: each graph is compiled on this machine, for its processor.

A package holds compiled code, so loading it runs code. Only what this machine built is ever loaded:
serving/engine_plans compares its hash first.
"""

from __future__ import annotations

import importlib
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch._inductor import aoti_compile_and_package
from torch._inductor.package.package import load_package

from bundle.onnx_graph import DENSE_OUTPUTS, OUTPUTS, GraphName
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._batch_parts import BATCH_SIZES, run_in_parts
from serving.engines._built_folder import built_folder
from serving.engines._hardware import cpu, cuda_precisions, hardware
from serving.engines._torch_cuda import CudaModel
from serving.engines._torch_graph import TorchGraph
from serving.engines._typed_graph import simplified, write_typed_graph
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    OutOfMemoryError,
    Plans,
    cpu_threads,
    describe_engine,
    fp32_plans,
)

OUT_OF_MEMORY_MESSAGES = ("out of memory", "can't allocate memory", "bad_alloc")
"""Substrings of torch's out-of-memory messages; on a CPU it has no exception class for them."""

_EXAMPLE_BATCH = 8
"""The batch size that the compiler chooses its loops for; all others run as well."""

_BF16_FLAGS = ("avx512_bf16", "amx_bf16")


class TorchEngine:
    """The graphs of a bundle on a CPU or a CUDA device."""

    def __init__(
        self, models: dict[GraphName, Any], description: str, threads: int, runs: int
    ) -> None:
        self._models = models
        self._threads = threads
        self.description = description
        self.runs = runs

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions."""
        _check_device(device)
        if device == "cuda":
            return cuda_precisions()
        return ("fp32", "bf16") if any(flag in cpu().split() for flag in _BF16_FLAGS) else ("fp32",)

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        """See Engine.needs_calibration."""
        return False

    @classmethod
    def identity(cls, device: Device) -> str:
        """See Engine.identity."""
        _check_device(device)
        return f"torch {torch.__version__}, {hardware(device)}"

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """See Engine.build. Compiles with the C++ compiler of this machine, and Triton on CUDA."""
        onnx = importlib.import_module("onnx")
        source = task.bundle.file(f"{task.graph}.onnx")
        if task.precision == "fp32":
            model = simplified(source, task.folder)
        else:
            typed = write_typed_graph(task)
            model = onnx.load(typed)
            typed.unlink()
        outputs = (OUTPUTS if task.bundle.is_sparse else DENSE_OUTPUTS)[task.graph]
        module = TorchGraph(onnx, model, outputs).eval().to(task.device)
        example = torch.zeros(_input_shape(model), dtype=_input_type(onnx, model))
        batch = torch.export.Dim("batch", min=1, max=BATCH_SIZES[-1])
        try:
            # The device of what the graph makes by itself, such as a range.
            with torch.no_grad(), torch.device(task.device), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.export.export(
                    module, (example.to(task.device),), dynamic_shapes=({0: batch},)
                )
                aoti_compile_and_package(
                    program,
                    package_path=str(task.folder / f"{task.graph}.pt2"),
                    # Weights are packed for the kernels; threads are chosen at each run.
                    inductor_configs={"freezing": True, "cpp.dynamic_threads": True},
                )
        except Exception as error:  # export and the compilers have a class for each failure
            raise EngineError(f"{task.graph}: torch cannot compile it: {error}") from error

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """See Engine.open. Compiles what has no plan, which takes minutes."""
        description = cls.describe(config)
        threads, runs = cpu_threads(bundle, config, cores)
        runs = runs if config.device == "cpu" else config.runs or 1
        models: dict[GraphName, Any] = {}
        with ExitStack() as stack:
            for graph, plan in (plans or fp32_plans(bundle)).items():
                folder = built_folder(cls, bundle, config, graph, plan, stack)
                outputs = (OUTPUTS if bundle.is_sparse else DENSE_OUTPUTS)[graph]
                models[graph] = _load(folder / f"{graph}.pt2", outputs, config.device, runs)
        return cls(models, description, threads, runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        _check_device(config.device)
        return describe_engine("torch", torch.__version__, config)

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """See Engine.run."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # holds for the thread that calls it
        try:
            return EngineOutput.of_arrays(self._models[graph].run(inputs))
        except Exception as error:
            out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
                message in str(error) for message in OUT_OF_MEMORY_MESSAGES
            )
            kind = OutOfMemoryError if out_of_memory else EngineError
            raise kind(f"{graph}: {error}") from error

    def close(self) -> None:
        """See Engine.close."""
        self._models = {}


class _CpuModel:
    """A compiled model on the CPU; as many threads run it as it has runners."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        self._model, self._outputs = model, outputs

    def run(self, inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return run_in_parts(self._run_part, inputs)

    def _run_part(self, inputs: NDArray[Any], size: int) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            arrays = [output.numpy() for output in self._model(torch.from_numpy(inputs))]
        return dict(zip(self._outputs, arrays, strict=True))


def _load(path: Path, outputs: tuple[str, ...], device: Device, runs: int) -> Any:
    try:
        if device == "cuda":
            return CudaModel(load_package(str(path), run_single_threaded=True), outputs)
        return _CpuModel(load_package(str(path), num_runners=runs), outputs)
    except Exception as error:  # torch has a class of its own for each failure
        raise EngineError(f"{path.name}: {error}") from error


def _input_shape(model: Any) -> tuple[int, ...]:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return (_EXAMPLE_BATCH, *(dim.dim_value for dim in dims[1:]))


def _input_type(onnx: Any, model: Any) -> torch.dtype:
    kind = model.graph.input[0].type.tensor_type.elem_type
    return torch.int64 if kind == onnx.TensorProto.INT64 else torch.float32


def _check_device(device: Device) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineUnavailableError("engine.device: torch finds no CUDA device; use cpu")
