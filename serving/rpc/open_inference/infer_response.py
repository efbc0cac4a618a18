"""From the answers of items to ModelInferResponse. N items, K concepts of a code, D of a vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.batching.item_results import EmbeddedItem, ItemResult
from serving.core.errors import ServingError
from serving.models.loaded_model import ServedModel
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.infer_request import InferCall
from serving.rpc.open_inference.model_description import code_width
from serving.rpc.open_inference.tensors import RawTensor


def all_answered(results: Sequence[ItemResult], tensor: str) -> list[EmbeddedItem]:
    """The answers. Raises ServingError for the first item that failed, naming its index.

    A reply has one status for all items, so that one which fails fails the call.
    """
    failures = [i for i, result in enumerate(results) if isinstance(result, ServingError)]
    if not failures:
        return [result for result in results if isinstance(result, EmbeddedItem)]
    first = results[failures[0]]
    assert isinstance(first, ServingError)
    path = f"inputs.{tensor}[{failures[0]}]"
    problem = first.message.removeprefix(f"{tensor}: ")
    others = f" ({len(failures) - 1} more failed)" if len(failures) > 1 else ""
    message = f"{path}: {problem}{others}"
    raise ServingError(first.kind, message, field=path, retry_after=first.retry_after)


def infer_response(
    call: InferCall, names: Sequence[str], items: Sequence[EmbeddedItem], model: ServedModel
) -> pb.ModelInferResponse:
    """The reply, with the outputs `names` in their order."""
    reply = pb.ModelInferResponse(
        model_name=model.id.name, model_version=model.id.version, id=call.id
    )
    truncated = sum(item.coverage.truncated for item in items)
    if truncated:  # other protocols say it of each text
        reply.parameters["truncated_texts"].int64_param = truncated
    for name in names:
        tensor = _tensor(name, call, items, model)
        reply.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        reply.raw_output_contents.append(tensor.raw)
    return reply


def _tensor(
    name: str, call: InferCall, items: Sequence[EmbeddedItem], model: ServedModel
) -> RawTensor:
    match name:
        case "indices" | "values":
            width = code_width(model.architecture, call.input)
            padded = np.zeros((len(items), width), dtype="<i4" if name == "indices" else "<f4")
            for place, item in enumerate(items):
                row = item.row.indices if name == "indices" else item.row.values
                padded[place, : len(row)] = row
            return RawTensor.of_array(padded, "INT32" if name == "indices" else "FP32")
        case "active":
            active = np.array([item.row.active or 0 for item in items])
            return RawTensor.of_array(active, "INT32")
        case "norm":
            return RawTensor.of_array(np.array([item.row.norm for item in items]), "FP32")
        case "dense":
            return RawTensor.of_array(np.stack([item.row.dense for item in items]), "FP32")
        case "names":
            return _names(call.top_concepts, items, model)
    raise ValueError(f"no output {name}")


def _names(count: int, items: Sequence[EmbeddedItem], model: ServedModel) -> RawTensor:
    """The names of each item's strongest concepts, strongest first; empty where it has no more."""
    names: list[bytes] = []
    for item in items:
        top = [model.concepts[concept].name.encode() for concept, _ in item.row.top(count)]
        names += top + [b""] * (count - len(top))
    return RawTensor.of_bytes(names, (len(items), count))
