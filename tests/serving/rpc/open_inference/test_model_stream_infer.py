"""ModelStreamInfer: calls are answered in their order, and one that fails ends nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.rpc.open_inference import open_inference_pb2 as pb
from tests.serving.rpc.open_inference.infer_requests import arrays, infer_request, stub
from tests.serving.support.certificates import SLOW, bearer, write_tokens
from tests.serving.support.running_server import (
    PNG,
    Running,
    blocked,
    eventually,
    large_image,
    refused,
    serving,
    unharmed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def replies(running: Running, requests: list[Any], **options: Any) -> list[Any]:
    return [r async for r in stub(running).ModelStreamInfer(iter(requests), timeout=60, **options)]


async def test_every_call_is_answered_in_its_order(shared: Running) -> None:
    async with unharmed(shared):
        requests = [infer_request("text", [b"a dog"], "norm", id=str(i)) for i in range(100)]
        # Slow ones first: what comes after them is answered sooner, and waits.
        requests[0] = infer_request("image", [large_image()] * 2, "norm", id="0")
        requests[7] = infer_request("image", [PNG, b"nonsense"], id="7")
        requests[8] = infer_request("text", [b"a"], id="8", parameters={"no": 1})
        requests[9] = infer_request("text", [b"a"], id="9", model="no")
        answers = await replies(shared, requests)
        assert [answer.infer_response.id for answer in answers] == [str(i) for i in range(100)]
        failed = {7: "inputs.image[1]: ", 8: "parameters.no: ", 9: "this model is not loaded"}
        for place, answer in enumerate(answers):
            assert answer.error_message.startswith(failed.get(place, ""))
            assert bool(answer.error_message) == (place in failed)
            if place not in failed:
                assert arrays(answer.infer_response)["norm"].shape == (1 if place else 2,)
                assert answer.infer_response.parameters["triton_final_response"].bool_param


async def test_calls_of_a_stream_share_the_window(tiny_bundle: Path) -> None:
    limits = {"stream_window": 4, "images_per_call": 8, "queue_images": 64}
    async with serving(tiny_bundle, limits=limits) as running, unharmed(running):
        batcher = running.server.registry.models[0].batchers["image"]
        sent = []

        async def requests() -> AsyncIterator[Any]:
            for size in (3, 1, 1, 8, 1):  # 8 is more than the window: it goes alone
                sent.append(size)
                yield infer_request("image", [PNG] * size, "norm")

        with blocked(running):
            call = stub(running).ModelStreamInfer(requests(), timeout=60)
            waiting = asyncio.ensure_future(drain(call))
            assert await eventually(lambda: batcher.admission.admitted == 4)
            await asyncio.sleep(0.2)
            assert batcher.admission.admitted == 4
        sizes = [len(arrays(one.infer_response)["norm"]) for one in await waiting]
        assert sizes == sent == [3, 1, 1, 8, 1]


async def test_bytes_that_are_no_call_end_the_stream(shared: Running) -> None:
    async with unharmed(shared):
        call = shared.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        good = infer_request("text", [b"a"], "norm").SerializeToString()
        answered = call(iter([good, b"\x0a\xff\xff\xff\xff\x0f"]), timeout=30)
        first = pb.ModelStreamInferResponse.FromString(await answered.read())
        assert not first.error_message
        assert (await refused(answered.read())).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_draining_server_answers_what_it_has_read(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle) as running:
        batcher = running.server.registry.models[0].batchers["image"]
        call = stub(running).ModelStreamInfer(timeout=60)
        with blocked(running):
            await call.write(infer_request("image", [PNG, PNG], "norm"))
            assert await eventually(lambda: batcher.admission.admitted == 2)
            draining = asyncio.ensure_future(running.server.drain())
            await asyncio.sleep(0.1)
        assert len(arrays((await call.read()).infer_response)["norm"]) == 2
        assert (await refused(call.read())).code is grpc.StatusCode.UNAVAILABLE
        assert await draining


async def test_each_item_of_a_stream_counts_for_the_quota(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    quota = {"requests_per_second": 10.0, "burst": 2.0}
    tokens = write_tokens(tmp_path / "tokens.json", **quota)
    async with serving(tiny_bundle, tokens=str(tokens)) as running:
        requests = [infer_request("text", [b"a"] * 5, "norm")] * 2
        started = time.monotonic()
        answers = await replies(running, requests, metadata=bearer(SLOW))
        assert [one.error_message for one in answers] == ["", ""]
        # The call itself and ten items, two of the eleven at once.
        assert time.monotonic() - started > 0.8


async def test_a_caller_who_leaves_frees_its_slots(shared: Running) -> None:
    async with unharmed(shared):
        batcher = shared.server.registry.models[0].batchers["image"]
        with blocked(shared):
            call = stub(shared).ModelStreamInfer(timeout=60)
            await call.write(infer_request("image", [PNG] * 3, "norm"))
            assert await eventually(lambda: batcher.admission.admitted == 3)
            call.cancel()
            assert await eventually(lambda: batcher.admission.admitted == 0)


async def drain(call: Any) -> list[Any]:
    return [reply async for reply in call]
