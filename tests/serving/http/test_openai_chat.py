"""Conversations in OpenAI's shape. Its client is in this process only where a test holds back the
steps of the model; elsewhere it is a program of tests/clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from sparseclip.v1 import chat_pb2
from tests.serving.http.completions import PATH, asks, image
from tests.serving.http.support import JSON, WebServer, data_uri, web
from tests.serving.support.chat_requests import SET, Edit, question, replies, stepping, text_of
from tests.serving.support.running_server import assert_clean, encoded_image, eventually, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOG = {"edits": [{"phrase": "dog", "op": "set", "value": 4.0}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[WebServer]:
    async with web(chat_bundle) as opened:
        yield opened


def stock(chatty: WebServer) -> Any:
    return openai.AsyncOpenAI(base_url=f"{chatty.address}/v1", api_key="any", max_retries=0)


async def test_an_answer_is_that_of_grpc(chatty: WebServer) -> None:
    async with unharmed(chatty.running):
        answer = await chatty.post(PATH, asks())
    events = await replies(chatty.running, question())
    start, end = events[0].start, events[-1].end
    [choice] = answer["choices"]
    assert choice["message"]["content"] == text_of(events)
    assert choice["finish_reason"] == {1: "stop", 2: "length"}[end.finish]
    assert answer["model"] == f"{start.model.name}@{start.model.version}"
    assert answer["sparseclip"]["end"]["usage"]["image_tokens"] == end.usage.image_tokens


async def test_each_delta_is_sent_when_it_is_there(chatty: WebServer) -> None:
    with stepping(chatty.running) as steps:
        stream = await stock(chatty).chat.completions.create(**asks(), stream=True)
        chunks = aiter(stream)
        await anext(chunks)
        for _ in range(3):
            pending = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0.05)
            assert not pending.done()
            steps.free.release(1)
            assert (await asyncio.wait_for(pending, 10)).choices[0].delta.content is not None
        steps.free.release(100_000)
        assert [chunk async for chunk in chunks]


async def test_stop_ends_an_answer(chatty: WebServer) -> None:
    whole = text_of(await replies(chatty.running, question()))
    stop = whole[len(whole) // 2 :][:4]
    [choice] = (await chatty.post(PATH, asks(stop=stop)))["choices"]
    assert choice["message"]["content"] == whole[: whole.index(stop)]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("place", ["top", "image"])
async def test_steering_is_that_of_grpc(chatty: WebServer, place: str) -> None:
    body = asks(steering=DOG) if place == "top" else asks(image(steering=DOG))
    reply = await chatty.post(PATH, body)
    events = await replies(chatty.running, question(Edit(phrase="dog", op=SET, value=4.0)))
    assert reply["choices"][0]["message"]["content"] == text_of(events)
    [shown] = reply["sparseclip"]["start"]["images"]
    [expected] = events[0].start.images
    assert shown["edited_total"] == expected.edited_total > 0
    assert [c["concept_id"] for c in shown["after"]] == [c.concept_id for c in expected.after]


async def test_steering_at_the_top_is_of_the_last_images(chatty: WebServer) -> None:
    body = asks(image(), image(steering=False), steering=DOG)
    first = {"role": "user", "content": [image()]}
    answer = {"role": "assistant", "content": "A cat."}
    body["messages"] = [first, answer, *body["messages"], answer, {"role": "user", "content": "?"}]
    reply = await chatty.post(PATH, body)
    edited = [entry["edited_total"] for entry in reply["sparseclip"]["start"]["images"]]
    assert [total > 0 for total in edited] == [False, True, False]


async def test_none_and_false_steer_nothing(chatty: WebServer) -> None:
    for off in (None, False):
        reply = await chatty.post(PATH, asks(steering=off))
        assert reply["sparseclip"]["start"]["images"][0]["edited_total"] == 0


async def test_a_plan_of_the_client_is_taken(chatty: WebServer) -> None:
    from sparseclip import Edit as ClientEdit
    from sparseclip import Steering

    plan = Steering(edits=[ClientEdit(op="ABLATE", concept=3, patches=[0, 5])], strength=0.5)
    reply = await chatty.post(PATH, asks(steering=json.loads(plan.to_json())))
    assert reply["sparseclip"]["start"]["images"][0]["edited_total"] == 1


async def test_an_error_in_a_stream_is_raised_by_the_client(chatty: WebServer) -> None:
    async with unharmed(chatty.running):
        with stepping(chatty.running) as steps:
            stream = await stock(chatty).chat.completions.create(**asks(), stream=True)
            chunks = aiter(stream)
            await anext(chunks)
            steps.error = RuntimeError("out of order at 0x7f00")
            steps.free.release(100)
            with pytest.raises(openai.APIError) as raised:
                [chunk async for chunk in chunks]
        assert_clean(raised.value.message)
        assert raised.value.message


async def test_who_hangs_up_ends_the_answer(chatty: WebServer) -> None:
    async with unharmed(chatty.running):
        for number in range(3):
            with stepping(chatty.running) as steps:
                part = {"type": "image_url", "image_url": {"url": data_uri(encoded_image(number))}}
                stream = await stock(chatty).chat.completions.create(**asks(part), stream=True)
                await anext(aiter(stream))
                steps.free.release(2)
                await stream.close()

                def none_in_flight() -> bool:
                    return chatty.running.gauges()["sparseclip_chats_in_flight{}"] == 0

                assert await eventually(none_in_flight)
                assert len(steps.batches) <= 4


async def test_who_hangs_up_before_the_answer_ends_it_as_well(chatty: WebServer) -> None:
    async with unharmed(chatty.running):
        with stepping(chatty.running):
            raw = json.dumps(asks(max_tokens=200))
            host, port = chatty.host
            _, writer = await asyncio.open_connection(host, port)
            head = f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(raw)}\r\n"
            writer.write((head + f"content-type: {JSON['content-type']}\r\n\r\n" + raw).encode())
            gauge = "sparseclip_chats_in_flight{}"
            assert await eventually(lambda: chatty.running.gauges()[gauge] == 1)
            writer.close()
            assert await eventually(lambda: chatty.running.gauges()[gauge] == 0)


async def test_a_model_without_chat_says_so(shared_web: WebServer) -> None:
    assert (await shared_web.post(PATH, asks(), 422))["detail"]


async def test_the_default_length_is_that_of_grpc(chatty: WebServer) -> None:
    body = asks()
    del body["max_tokens"]
    reply = await chatty.post(PATH, body)
    request = question(max_tokens=0)
    events = await replies(chatty.running, request)
    assert reply["choices"][0]["message"]["content"] == text_of(events)
    assert isinstance(events[-1].end, chat_pb2.ChatEnd)
