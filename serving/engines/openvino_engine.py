"""OpenVINO on a CPU: one compiled model for each graph, and a request for each concurrent run."""

from __future__ import annotations

import queue
from typing import Any, Self

from numpy.typing import NDArray

from bundle.onnx_graph import DENSE_OUTPUTS, INPUT, OUTPUTS, GraphName
from bundle.openvino_library import import_quietly
from bundle.store import Bundle
from serving.engines import Device, EnginePrecision
from serving.engines._hardware import hardware
from serving.engines._openvino_graphs import keep_in_fp32, quantized
from serving.engines.base import (
    BuildTask,
    EngineConfig,
    EngineError,
    EngineOutput,
    EngineUnavailableError,
    GraphPlan,
    OutOfMemoryError,
    Plans,
    cpu_threads,
    describe_engine,
    fp32_plans,
)

openvino = import_quietly("openvino")


class OpenVinoEngine:
    """The graphs of a bundle on a CPU."""

    def __init__(
        self, bundle: Bundle, models: dict[GraphName, Any], description: str, runs: int
    ) -> None:
        self._outputs = OUTPUTS if bundle.is_sparse else DENSE_OUTPUTS
        self._requests: dict[GraphName, queue.SimpleQueue[Any]] = {}
        for graph, model in models.items():
            self._requests[graph] = queue.SimpleQueue()
            for _ in range(runs):
                self._requests[graph].put(model.create_infer_request())
        self.description = description
        self.runs = runs

    @classmethod
    def precisions(cls, device: Device) -> tuple[EnginePrecision, ...]:
        """See Engine.precisions."""
        _check_device(device)
        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        bf16: tuple[EnginePrecision, ...] = ("bf16",) if "BF16" in capabilities else ()
        return ("fp32", *bf16, "int8")

    @classmethod
    def needs_calibration(cls, precision: EnginePrecision) -> bool:
        """See Engine.needs_calibration."""
        return precision == "int8"

    @classmethod
    def identity(cls, device: Device) -> str:
        """See Engine.identity."""
        _check_device(device)
        return f"openvino {openvino.__version__}, {hardware(device)}"

    @classmethod
    def build(cls, task: BuildTask) -> None:
        """See Engine.build. Writes OpenVINO's own format, where the bundle's graph does not do."""
        if task.precision != "int8" and not task.kept:
            return
        try:
            model = openvino.Core().read_model(task.bundle.file(f"{task.graph}.onnx"))
            if task.precision == "int8":
                model = quantized(model, task)
            target = task.folder / f"{task.graph}.xml"
            openvino.save_model(model, target, compress_to_fp16=False)
            keep_in_fp32(target, task.kept)
        except EngineError:
            raise
        except Exception as error:  # openvino and nncf have a class of their own for each failure
            raise EngineError(f"{task.graph}: openvino cannot build it: {error}") from error

    @classmethod
    def open(
        cls, bundle: Bundle, config: EngineConfig, cores: int = 0, plans: Plans | None = None
    ) -> Self:
        """See Engine.open."""
        _check_device(config.device)
        threads, runs = cpu_threads(bundle, config, cores)
        core = openvino.Core()
        models = {
            graph: _compile(core, bundle, graph, plan, threads, runs)
            for graph, plan in (plans or fp32_plans(bundle)).items()
        }
        return cls(bundle, models, cls.describe(config), runs)

    @classmethod
    def describe(cls, config: EngineConfig) -> str:
        """See Engine.describe."""
        _check_device(config.device)
        version = openvino.__version__.partition("-")[0]
        return describe_engine("openvino", version, config)

    def run(self, graph: GraphName, inputs: NDArray[Any]) -> EngineOutput:
        """See Engine.run."""
        requests = self._requests[graph]
        request = requests.get()
        try:
            # The outputs are copied: the request's next run overwrites them.
            arrays = request.infer({INPUT[graph]: inputs}, share_inputs=True)
            return EngineOutput.of_arrays({name: arrays[name] for name in self._outputs[graph]})
        except Exception as error:
            short = isinstance(error, MemoryError) or "bad_alloc" in str(error)
            raise (OutOfMemoryError if short else EngineError)(f"{graph}: {error}") from error
        finally:
            requests.put(request)

    def close(self) -> None:
        """See Engine.close."""
        self._requests = {}


def _check_device(device: Device) -> None:
    if device != "cpu":
        raise EngineUnavailableError("engine.device: openvino runs here on cpu alone")


def _compile(
    core: Any, bundle: Bundle, graph: GraphName, plan: GraphPlan, threads: int, runs: int
) -> Any:
    path = plan.folder / f"{graph}.xml" if plan.folder else bundle.file(f"{graph}.onnx")
    # What int8 leaves over runs in bf16 where the CPU has it: the gate compared both together.
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    low = plan.precision != "fp32" and "BF16" in capabilities
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if low else "f32",
        "INFERENCE_NUM_THREADS": threads * runs,
        "NUM_STREAMS": runs,
        # Its threads would be bound to cores that the decoders and the event loop also use.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return core.compile_model(str(path), "CPU", settings)
    except RuntimeError as error:
        raise EngineError(f"{graph}: {error}") from error
