"""F-31: outputs that no model gives never reach a caller, and a broken model is not served."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.engines.base import EngineOutput
from tests.serving.support.model_versions import copy_version
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    embed_request,
    encoded_image,
    eventually,
    refused,
    serving,
    unharmed,
)

INTERNAL = grpc.StatusCode.INTERNAL.value[0]

Change = Callable[[EngineOutput], EngineOutput]


def in_row(name: str, value: float, row: int = 1) -> Change:
    """Puts a value into one row of an output, where the batch has that row."""

    def change(output: EngineOutput) -> EngineOutput:
        array = np.array(getattr(output, name))
        if len(array) > row:
            array[row, ...] = value
        return dataclasses.replace(output, **{name: array})

    return change


ROWS: dict[str, Change] = {
    "NaN codes": in_row("values", float("nan")),
    "infinite codes": in_row("values", float("inf")),
    "negative codes": in_row("values", -1.0),
    "an id of C": in_row("indices", 256),
    "a negative id": in_row("indices", -1),
    "NaN norm": in_row("norm", float("nan")),
    "a negative norm": in_row("norm", -1.0),
    "infinite vector": in_row("dense", float("inf")),
    "fewer active than there are": in_row("active", 0),
}

SHAPES: dict[str, Change] = {
    "a row less": lambda o: dataclasses.replace(o, values=o.values[:-1], indices=o.indices[:-1]),
    "other widths": lambda o: dataclasses.replace(o, values=o.values[:, :-1]),
    "another D": lambda o: dataclasses.replace(o, dense=o.dense[:, :-1]),
    "no batch": lambda o: dataclasses.replace(o, norm=o.norm[0]),
}


@pytest.mark.parametrize("name", ROWS)
async def test_f31_one_bad_row_fails_alone(tiny_bundle: Path, name: str) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        good = (await running.stub.Embed(embed_request(PNG, PNG, PNG), timeout=30)).results[0]
        running.engine.change = ROWS[name]
        with blocked(running):
            first = asyncio.ensure_future(running.stub.Embed(embed_request(PNG), timeout=30))
            assert await eventually(running.engine.entered.is_set)
            call = asyncio.ensure_future(
                running.stub.Embed(embed_request(PNG, PNG, PNG), timeout=30)
            )
            waiting = running.server.registry.models[0].batchers["image"]._queue
            assert await eventually(lambda: len(waiting) == 3)
        reply = await call
        await first
        assert running.engine.sizes[-1] == 3
        assert [result.status.code for result in reply.results] == [0, INTERNAL, 0]
        for result in reply.results:
            if result.status.code:
                assert (result.status.code, result.status.message) == (INTERNAL, "internal error")
                assert not any((result.sparse.indices, result.dense, result.concepts))
            else:
                np.testing.assert_allclose(result.dense, good.dense, atol=1e-6)
        running.engine.change = lambda output: output


@pytest.mark.parametrize("name", SHAPES)
async def test_f31_wrong_shapes(tiny_bundle: Path, name: str) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        running.engine.change = SHAPES[name]
        reply = await running.stub.Embed(embed_request(PNG, encoded_image(1)), timeout=30)
        assert [result.status.code for result in reply.results] == [INTERNAL, INTERNAL]
        running.engine.change = lambda output: output


async def test_f31_a_broken_model_is_not_serving_until_it_is_well(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, failures_before_probe=3) as running, unharmed(running):
        running.engine.change = in_row("values", float("nan"), row=0)
        for _ in range(2):
            await running.stub.Embed(embed_request(PNG), timeout=30)
        assert await running.serving()
        await running.stub.Embed(embed_request(PNG), timeout=30)
        assert await eventually(lambda: not_serving(running))
        await asyncio.sleep(0.5)  # probes in between do not help
        assert not await running.serving()
        running.engine.change = lambda output: output
        assert await eventually(running.serving)


async def not_serving(running: Running) -> bool:
    return not await running.serving()


async def test_f31_a_broken_version_is_rolled_back(tiny_bundle: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = copy_version(tiny_bundle, models, "1")
    copy_version(tiny_bundle, models, "2")
    engines: list[Any] = []

    async with serving(first, models=str(models), engines=engines) as running:
        registry = running.server.registry
        loaded = await registry.load("tiny", "2")
        assert loaded.version == "2"
        reply = await running.stub.Embed(embed_request(PNG), timeout=30)
        assert reply.model.version == "2"
        engines[1].change = in_row("values", float("nan"), row=0)
        for _ in range(3):
            await running.stub.Embed(embed_request(PNG), timeout=30)

        async def back() -> bool:
            again = await running.stub.Embed(embed_request(PNG), timeout=30)
            return bool(again.model.version == "1" and again.results[0].status.code == 0)

        assert await eventually(back)
        assert await running.serving()
        engines[1].change = lambda output: output


async def test_poison_outputs_of_text_are_checked_too(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        running.engine.change = in_row("dense", float("nan"), row=0)
        reply = await running.stub.Embed(embed_request(texts=("a",)), timeout=30)
        assert reply.results[0].status.code == INTERNAL
        from sparseclip.v1 import concepts_pb2, concepts_pb2_grpc

        stub: Any = concepts_pb2_grpc.ConceptServiceStub(running.channel)  # type: ignore[no-untyped-call]
        error = await refused(stub.SearchConcepts(concepts_pb2.SearchConceptsRequest(query="a")))
        assert error.code is grpc.StatusCode.INTERNAL
        running.engine.change = lambda output: output
