"""The vectors of a model as clients of other services want them.

Callers compare texts with pictures. So the numbers are the dense vector only where a model has one
that texts and pictures share; of any other model they are its code, written out: one number for
each concept, most of them 0. Both have the length 1.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle.architecture import Architecture
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.http.embedding_inputs import EmbeddingInputs
from serving.http.json_body import dump_json
from serving.http.json_messages import to_json
from serving.models.loaded_model import ServedModel
from serving.models.registry import Registry
from serving.rpc.services.embedding import EmbeddingService
from sparseclip.v1 import embedding_pb2

VectorForm = Literal["float", "base64", "sparse"]
FORMS: tuple[VectorForm, ...] = ("float", "base64", "sparse")

_MAX_WIDTH = 65_536
"""Concepts of a code that is written out."""
_AT_ONCE = 8
"""Vectors that are written in one turn of the event loop."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingAnswer:
    """The vectors of one call, in the order of its inputs."""

    model: str
    """`name@version` of the model that answered."""
    vector: Literal["dense", "code"]
    """What the numbers are."""
    results: Sequence[embedding_pb2.EmbedResult]
    forms: dict[VectorForm, list[bytes]]
    """For each form that was asked for, the vector of each input as JSON."""
    notes: list[bytes]
    """What to know of each vector, as JSON."""

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(result.coverage.tokens for result in self.results)


def vector_of(architecture: Architecture) -> tuple[Literal["dense", "code"], int]:
    """What the numbers of a model's vectors are, and how many it has."""
    if architecture.dense == "shared":
        return "dense", architecture.dense_dim
    return "code", architecture.concepts


def forms_of(names: Iterable[str], field: str) -> tuple[VectorForm, ...]:
    """The forms of these names. Raises ServingError naming the field."""
    forms = []
    for i, name in enumerate(names):
        if name not in FORMS:
            raise invalid(f"{field}[{i}]", f"must be one of {', '.join(FORMS)}")
        forms.append(name)
    if not forms:
        raise invalid(field, "at least one is needed")
    return tuple(dict.fromkeys(forms))


async def embed(
    registry: Registry,
    service: EmbeddingService,
    inputs: EmbeddingInputs,
    forms: Sequence[VectorForm],
    dimensions: tuple[str, int | None],
    context: Any,
) -> EmbeddingAnswer:
    """The vectors of all inputs. `dimensions` has the name of a field and its value.

    Raises ServingError: one item that fails is the failure of the call, named by its place.
    """
    # No call comes between the two leases: `Embed` takes its own before it first waits.
    with registry.lease(inputs.selector) as model:
        vector, width = vector_of(model.architecture)
        field, wanted = dimensions
        if wanted is not None and wanted != width:
            raise invalid(field, f"this model has {width}")
        is_written_out = set(forms) != {"sparse"}
        if is_written_out and width > _MAX_WIDTH:
            message = f"the code has {width} numbers: ask for the embedding type sparse alone"
            raise ServingError(ErrorKind.CONFLICT, message)
        outputs = inputs.request.outputs
        outputs.dense = is_written_out and vector == "dense"
        outputs.sparse = "sparse" in forms or (is_written_out and vector == "code")
        with inputs.paths.naming():
            reply = await service.Embed(inputs.request, context)
        for i, result in enumerate(reply.results):
            if error := inputs.error_of(i, result):
                raise error
        texts: dict[VectorForm, list[bytes]] = {form: [] for form in forms}
        notes = []
        for i, result in enumerate(reply.results):
            for form in forms:
                texts[form].append(dump_json(_FORMS[form](result, vector, model)))
            coverage = to_json(result.coverage)
            notes.append(dump_json({"active": result.active, "coverage": coverage}))
            if i % _AT_ONCE == _AT_ONCE - 1:  # many long vectors take a while: let others come
                await asyncio.sleep(0)
        return EmbeddingAnswer(
            model=f"{reply.model.name}@{reply.model.version}",
            vector=vector,
            results=reply.results,
            forms=texts,
            notes=notes,
        )


def _numbers(
    result: embedding_pb2.EmbedResult, vector: str, model: ServedModel
) -> NDArray[np.float32]:
    if vector == "dense":
        dense = np.array(result.dense, dtype=np.float32)
        norm = float(np.linalg.norm(dense))
        return dense / np.float32(norm or 1.0)
    code = np.zeros(model.architecture.concepts, dtype="<f4")
    values = np.array(result.sparse.values, dtype=np.float32)
    code[list(result.sparse.indices)] = values / np.float32(result.sparse.norm or 1.0)
    return code


def _floats(result: embedding_pb2.EmbedResult, vector: str, model: ServedModel) -> list[float]:
    numbers: list[float] = _numbers(result, vector, model).tolist()
    return numbers


def _base64(result: embedding_pb2.EmbedResult, vector: str, model: ServedModel) -> str:
    numbers = _numbers(result, vector, model).astype("<f4", copy=False)
    return base64.b64encode(numbers.tobytes()).decode()


def _sparse(
    result: embedding_pb2.EmbedResult, vector: str, model: ServedModel
) -> list[dict[str, Any]]:
    """Activations as they are, not divided by the norm, with the names of the concepts."""
    pairs = zip(result.sparse.indices, result.sparse.values, strict=True)
    return [{"index": i, "value": value, "name": model.concepts[i].name} for i, value in pairs]


_FORMS = {"float": _floats, "base64": _base64, "sparse": _sparse}
