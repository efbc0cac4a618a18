"""What the protocol says of a model: its tensors. K concepts of a code, D width of a vector."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.architecture import Architecture
from serving.models.loaded_model import ServedModel
from serving.rpc.open_inference import open_inference_pb2 as pb
from serving.rpc.open_inference.infer_request import InferInput, offered
from serving.rpc.open_inference.tensors import Datatype, TensorSpec

PLATFORM = "sparseclip"

INPUTS = (
    TensorSpec(name="image", datatype="BYTES", shape=(-1,)),
    TensorSpec(name="text", datatype="BYTES", shape=(-1,)),
)
"""A call has one of the two."""

_DATA_TYPES: dict[Datatype, pb.DataType] = {
    "BYTES": pb.TYPE_STRING,
    "FP32": pb.TYPE_FP32,
    "INT32": pb.TYPE_INT32,
}


def code_width(architecture: Architecture, kind: InferInput) -> int:
    """K of the replies about images, or about texts: the most concepts that a code keeps."""
    return architecture.image_topk if kind == "image" else architecture.text_topk


def outputs_of(architecture: Architecture) -> list[TensorSpec]:
    """The tensors that a model gives."""
    images, texts = code_width(architecture, "image"), code_width(architecture, "text")
    width = images if images == texts else -1
    of_codes = {
        "indices": TensorSpec(name="indices", datatype="INT32", shape=(-1, width)),
        "values": TensorSpec(name="values", datatype="FP32", shape=(-1, width)),
        "active": TensorSpec(name="active", datatype="INT32", shape=(-1,)),
        "norm": TensorSpec(name="norm", datatype="FP32", shape=(-1,)),
        "names": TensorSpec(name="names", datatype="BYTES", shape=(-1, -1)),
        "dense": TensorSpec(name="dense", datatype="FP32", shape=(-1, architecture.dense_dim)),
    }
    return [of_codes[name] for name in offered(architecture)]


def model_metadata(model: ServedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Name, versions and tensors of a model."""
    architecture = model.architecture
    return pb.ModelMetadataResponse(
        name=model.id.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[_metadata(spec) for spec in INPUTS],
        outputs=[_metadata(spec) for spec in outputs_of(architecture)],
        properties={
            "kind": "sparse" if architecture.is_sparse else "dense",
            "concepts": str(architecture.concepts),
        },
    )


def model_config(model: ServedModel) -> pb.ModelConfigResponse:
    """The same in Triton's form."""
    config = pb.ModelConfig(
        name=model.id.name, platform=PLATFORM, backend=PLATFORM, max_batch_size=0
    )
    for spec in INPUTS:
        config.input.add(
            name=spec.name,
            data_type=_DATA_TYPES[spec.datatype],
            dims=spec.shape,
            optional=True,
        )
    for spec in outputs_of(model.architecture):
        config.output.add(name=spec.name, data_type=_DATA_TYPES[spec.datatype], dims=spec.shape)
    return pb.ModelConfigResponse(config=config)


def _metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.datatype, shape=spec.shape
    )
