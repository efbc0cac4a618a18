"""From ModelInferRequest to a validated call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bundle.architecture import Architecture
from serving.core.errors import invalid
from serving.core.limits import LimitsConfig
from serving.core.requests import (
    EmbedItem,
    ImageItem,
    InputOptions,
    ModelSelector,
    OutputSelection,
    TextItem,
)
from serving.models.abilities import check_concepts, chosen_outputs
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.infer_parameters import InferParameters, number, refuse_unknown
from serving.rpc.open_inference.tensors import elements_of

InferInput = Literal["image", "text"]

CODE_OUTPUTS = ("indices", "values", "active", "norm", "names")
"""Outputs of a model that has concepts."""
OUTPUTS = (*CODE_OUTPUTS, "dense")


@dataclass(frozen=True, kw_only=True)
class InferCall:
    """A validated call of ModelInfer."""

    selector: ModelSelector
    items: tuple[EmbedItem, ...]
    options: InputOptions
    input: InferInput
    """What all of its items are."""
    id: str
    tensors: tuple[str, ...]
    """The outputs to send, in this order; of OUTPUTS. Empty: all that the model has."""
    top_concepts: int
    timeout_s: float | None
    """How long the caller waits, beside the deadline of the call."""

    def outputs_of(self, architecture: Architecture) -> tuple[str, ...]:
        """The outputs to send. Raises ServingError naming one that the model does not have."""
        names = self.tensors or offered(architecture)
        for name in names:
            if name in CODE_OUTPUTS:
                check_concepts(architecture, f"outputs.{name}")
        if "dense" in names:
            chosen_outputs(OutputSelection(dense=True), architecture)
        return names


def offered(architecture: Architecture) -> tuple[str, ...]:
    """The outputs that a model has."""
    codes = CODE_OUTPUTS if architecture.is_sparse else ()
    return (*codes, "dense") if architecture.dense else codes


def item_count(request: pb.ModelInferRequest) -> int:
    """How many items a call says that it holds, at least 1; nothing is checked yet."""
    sizes = (tensor.shape[0] for tensor in request.inputs if tensor.shape)
    return max(1, *sizes, 1)


def infer_call(request: pb.ModelInferRequest, limits: LimitsConfig) -> InferCall:
    """A validated call. Raises ServingError naming the field or the tensor."""
    if len(request.id.encode()) > limits.id_bytes:
        raise invalid("id", f"more than {limits.id_bytes} bytes")
    parameters = InferParameters.read(request.parameters, limits)
    kind, elements = _input(request, limits)
    options = InputOptions(
        framing=parameters.framing,
        refuse_long_texts=parameters.refuse_long_texts,
        priority=parameters.priority,
    )
    return InferCall(
        selector=ModelSelector(name=request.model_name, version=request.model_version),
        items=tuple(_item(kind, one, options, i) for i, one in enumerate(elements)),
        options=options,
        input=kind,
        id=request.id,
        tensors=_outputs(request),
        top_concepts=parameters.top_concepts,
        timeout_s=parameters.timeout_s,
    )


def _input(request: pb.ModelInferRequest, limits: LimitsConfig) -> tuple[InferInput, list[bytes]]:
    if len(request.inputs) != 1:
        raise invalid("inputs", "must be one: image or text")
    [tensor] = request.inputs
    if tensor.name not in ("image", "text"):
        raise invalid("inputs[0].name", "must be image or text")
    kind: InferInput = "image" if tensor.name == "image" else "text"
    at = f"inputs.{kind}"
    raws = request.raw_input_contents
    if len(raws) > 1:
        raise invalid("raw_input_contents", f"{len(raws)} entries, but one input")
    raw = raws[0] if raws else None
    most = limits.images_per_call if kind == "image" else limits.texts_per_call
    elements = elements_of(tensor, raw, most, at)
    # KServe's client says beside raw contents how large they are.
    refuse_unknown(tensor.parameters, {"binary_data_size"}, f"{at}.parameters")
    if "binary_data_size" in tensor.parameters:
        where = f"{at}.parameters.binary_data_size"
        size = number(tensor.parameters["binary_data_size"], where)
        if raw is None or size != len(raw):
            raise invalid(where, "is not the size of its raw contents")
    return kind, elements


def _item(kind: InferInput, element: bytes, options: InputOptions, place: int) -> EmbedItem:
    if kind == "image":
        return ImageItem(id="", data=element, framing=options.framing)
    try:
        text = element.decode()
    except UnicodeDecodeError:
        raise invalid(f"inputs.text[{place}]", "is not UTF-8") from None
    return TextItem(id="", text=text, refuse_long=options.refuse_long_texts)


def _outputs(request: pb.ModelInferRequest) -> tuple[str, ...]:
    names: list[str] = []
    for i, wanted in enumerate(request.outputs):
        if wanted.name not in OUTPUTS:
            raise invalid(f"outputs[{i}].name", f"must be one of {', '.join(OUTPUTS)}")
        if wanted.name in names:
            raise invalid(f"outputs[{i}].name", "appears twice")
        # It is for HTTP, and comes along where a proxy turns HTTP into gRPC.
        refuse_unknown(wanted.parameters, {"binary_data"}, f"outputs.{wanted.name}.parameters")
        names.append(wanted.name)
    return tuple(names)
