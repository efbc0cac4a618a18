"""Conversations through the typed client: against the real server, and against scripted faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from mllm_adapter.steering.plan import SteeringEdit, SteeringPlan
from serving.in_process import local_server
from sparseclip import (
    AsyncClient,
    CallError,
    ChatDelta,
    ChatEnd,
    ChatImage,
    ChatMessage,
    ChatSampling,
    ChatStart,
    Client,
    Edit,
    RetryPolicy,
    Steering,
)
from sparseclip.v1 import chat_pb2, chat_pb2_grpc
from tests.serving.support.running_server import PNG
from tests.sparseclip.conftest import FAST

SHORT = ChatSampling(max_tokens=12)
DOG = Steering(edits=[Edit(phrase="dog", op="SET", value=4.0)])


@pytest.fixture(scope="module")
def served(chat_bundle: Path) -> Iterator[str]:
    with local_server(chat_bundle) as opened:
        yield opened


def test_a_question(served: str) -> None:
    with Client(served) as client:
        start, *deltas, end = client.chat("What is this?", [PNG], steering=DOG, sampling=SHORT)
        again = client.chat("What is this?", [PNG], steering=DOG, sampling=SHORT)
        assert "".join(e.text for e in (start, *deltas, end)) == "".join(e.text for e in again)
    assert isinstance(start, ChatStart)
    assert isinstance(end, ChatEnd)
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    assert end.finish in ("stop", "length")
    assert end.usage.image_tokens == 17
    [image] = start.images
    assert image.edited_total == len(image.edited) == 4
    assert {entry.edits for entry in image.edited} == {(0,)}
    after = [entry.after for entry in image.edited]
    assert max(after) == pytest.approx(4.0)
    assert all(0 < value <= 4.0 for value in after)


async def test_asyncio(served: str) -> None:
    with Client(served) as blocking:
        expected = [event.text for event in blocking.chat("What?", [PNG], sampling=SHORT)]
    async with AsyncClient(served) as client:
        found = [event.text async for event in client.chat("What?", [PNG], sampling=SHORT)]
        assert found == expected
        with pytest.raises(CallError, match="INVALID_ARGUMENT.*messages"):
            await anext(client.chat(""))


def test_a_conversation(served: str) -> None:
    messages = [
        ChatMessage(role="system", text="Be brief."),
        ChatMessage(text="What is this?", images=[PNG, ChatImage(image=PNG, steering=DOG)]),
        ChatMessage(role="assistant", text="a dog"),
        ChatMessage(text="Are you sure?"),
    ]
    with Client(served) as client:
        start = next(client.chat(messages, sampling=SHORT))
        assert isinstance(start, ChatStart)
        assert [image.edited_total for image in start.images] == [0, 4]
        with pytest.raises(ValueError, match="in its messages"):
            client.chat(messages, [PNG])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": ["https://example.org/cat.png"]}, "addresses are not fetched"),
        ({"images": ["no.png"]}, "no such file"),
        ({"images": [b"<html>"]}, r"messages\[0\].images\[0\].data: unsupported image"),
        ({"sampling": ChatSampling(temperature=-1)}, "sampling.temperature"),
        ({"sampling": ChatSampling(stop=["a", ""])}, r"sampling.stop\[1\]: must have 1 to 64"),
        ({"sampling": ChatSampling(presence_penalty=3)}, "sampling.presence_penalty: must be -2"),
        (
            {"images": [PNG], "steering": Steering(edits=[Edit(op="ABLATE", concept="no")])},
            r"steering.edits\[0\].concept_name: no concept has this name",
        ),
    ],
)
def test_mistakes(served: str, arguments: dict[str, Any], message: str) -> None:
    with Client(served) as client, pytest.raises(CallError, match=message):
        list(client.chat("What?", **arguments))


def test_a_plan_of_the_adapter_is_read() -> None:
    edits = (
        SteeringEdit(concept=7, op="SET", value=2.0),
        SteeringEdit(concept=9, op="ABLATE", patches=(1, 2)),
    )
    plan = SteeringPlan(edits=edits, strength=0.5)
    read = Steering.from_json(plan.to_json())
    assert read.strength == 0.5
    assert list(read.edits) == [
        Edit(op="SET", concept=7, value=2.0),
        Edit(op="ABLATE", concept=9, value=0.0, patches=[1, 2]),
    ]
    mixed = Steering(edits=(Edit(op="SET", phrase="dog", top=3), Edit(op="ABLATE", concept="cat")))
    assert Steering.from_json(mixed.to_json()) == mixed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan: not JSON"),
        ("[]", "plan: must be an object"),
        ('{"edit": []}', "plan: edit: unknown key"),
        ('{"edits": {}}', "edits: must be a list"),
        ('{"strength": "x"}', "strength: must be a number"),
        ('{"edits": [{"op": "SET"}]}', r"edits\[0\].concept, phrase: give one"),
        ('{"edits": [{"op": "FLIP", "concept": 1}]}', r"edits\[0\].op: must be one of"),
        ('{"edits": [{"op": "ADD", "concept": 1}]}', r"edits\[0\].value: ADD needs one"),
        ('{"edits": [{"op": "SET", "concept": true}]}', r"edits\[0\].concept: must be"),
        ('{"edits": [{"op": "SET", "concept": 1, "value": "2"}]}', r"edits\[0\].value: must be"),
        ('{"edits": [{"op": "SET", "concept": 1, "patches": []}]}', r"edits\[0\].patches: at"),
        ('{"edits": [{"op": "SET", "concept": 1, "patches": [0.5]}]}', r"edits\[0\].patches"),
        ('{"edits": [{"op": "SET", "phrase": "a", "top": -1}]}', r"edits\[0\].top"),
    ],
)
def test_mistakes_in_a_plan_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Steering.from_json(text)


NO_CALL: dict[str, tuple[Callable[[Client], object], str]] = {
    "a phrase": (lambda _: Edit(op="SET", phrase=3), "phrase: must be text"),
    "half a character": (lambda _: Edit(op="SET", phrase="\ud800"), "phrase: not valid Unicode"),
    "a concept": (lambda _: Edit(op="SET", concept=1.5), "concept: must be an id or a name"),
    "an id": (lambda _: Edit(op="SET", concept=-1), "concept: not an id"),
    "a truth": (lambda _: Edit(op="SET", concept=True), "concept: must be an id or a name"),
    "a value": (lambda _: Edit(op="SET", concept=1, value="2"), "value: must be a number"),
    "a top": (lambda _: Edit(op="SET", phrase="dog", top=None), "top: must be a whole number"),
    "patches": (lambda _: Edit(op="SET", concept=1, patches=5), "patches: must be a list"),
    "a patch": (lambda _: Edit(op="SET", concept=1, patches=["a"]), "patches: must be a whole"),
    "an edit": (lambda _: Steering(edits=[{}]), r"edits\[0\]: must be an Edit"),
    "edits": (lambda _: Steering(edits="dog"), "edits: must be a list"),
    "a strength": (lambda _: Steering(strength=None), "strength: must be a number"),
    "steering": (lambda _: ChatImage(image=PNG, steering="dog"), "steering: must be a Steering"),
    "a text": (lambda _: ChatMessage(text=3), "text: must be text"),
    "a role": (lambda _: ChatMessage(text="a", role="robot"), "role: must be one of system, user"),
    "one image": (lambda _: ChatMessage(text="a", images="a.png"), "images: must be a list"),
    "a length": (lambda _: ChatSampling(max_tokens=-1), "max_tokens: must not be negative"),
    "a seed": (lambda _: ChatSampling(seed=2**40), "seed: must be at most 4294967295"),
    "a temperature": (lambda _: ChatSampling(temperature="0"), "temperature: must be a number"),
    "a stop sequence": (lambda _: ChatSampling(stop="a"), "stop: must be a list"),
    "a number to stop": (lambda _: ChatSampling(stop=["a", 3]), r"stop\[1\]: must be a str"),
    "half a stop": (lambda _: ChatSampling(stop=["\ud800"]), r"stop\[0\]: not valid Unicode"),
    "presence": (
        lambda _: ChatSampling(presence_penalty="1"),
        "presence_penalty: must be a number",
    ),
    "frequency": (lambda _: ChatSampling(frequency_penalty=[]), "frequency_penalty: must be a"),
    "repetition": (lambda _: ChatSampling(repetition_penalty=None), "repetition_penalty: must be"),
    "a plan": (lambda c: c.chat("What?", [PNG], steering={}), "steering: must be a Steering"),
    "a question": (lambda c: c.chat(3), "messages: must be a list"),
    "questions": (lambda c: c.chat(["What?"]), r"messages\[0\]: must be a ChatMessage"),
    "a timeout": (lambda c: list(c.chat("What?", timeout="1")), "timeout: must be a number"),
    "a key": (lambda c: c.get_concept(1.5), "concept: must be an id or a name"),
    "a query": (lambda c: c.search_concepts("\ud800"), "query: not valid Unicode"),
    "a limit": (lambda c: c.search_concepts("dog", limit=-1), "limit: must not be negative"),
    "a page": (lambda c: c.list_concepts(page_size="9"), "page_size: must be a whole number"),
    "labels": (lambda c: c.classifier([1, 2]), r"labels\[0\]: must be a str"),
}
"""What no server is asked, with the field that the error names."""


@pytest.mark.parametrize("case", NO_CALL)
def test_a_value_of_another_type_is_named(case: str) -> None:
    ask, message = NO_CALL[case]
    with (
        Client("localhost:1") as client,
        pytest.raises((TypeError, ValueError), match=f"^{message}"),
    ):
        ask(client)


def test_numbers_of_numpy_are_numbers() -> None:
    edit = Edit(op="SET", concept=np.int64(7), value=np.float32(2), patches=np.arange(2))
    assert edit == Edit(op="SET", concept=7, value=2.0, patches=(0, 1))
    assert Steering.from_json(Steering(edits=[edit]).to_json()).edits == (edit,)


class Script(chat_pb2_grpc.ChatServiceServicer):
    """Fails `failures` times after so many events, then answers."""

    def __init__(self, failures: int, after: int) -> None:
        self.failures, self.after = failures, after
        self.calls = 0
        self.left = 0
        self.waits = threading.Event()

    def Chat(  # noqa: N802
        self, request: chat_pb2.ChatRequest, context: grpc.ServicerContext
    ) -> Iterator[chat_pb2.ChatResponse]:
        self.calls += 1
        for number in range(4):
            if self.calls <= self.failures and number == self.after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the script")
            yield chat_pb2.ChatResponse(delta=chat_pb2.ChatDelta(text=str(number), tokens=1))
        if request.sampling.seed == 99:  # goes on until its caller leaves
            self.waits.set()
            while context.is_active():
                time.sleep(0.01)
            self.left += 1
        yield chat_pb2.ChatResponse()  # an event of a later contract


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Any]:
    servers: list[grpc.Server] = []

    def start(failures: int, after: int) -> tuple[Script, str]:
        server, path = grpc.server(ThreadPoolExecutor(4)), f"unix:{tmp_path}/{len(servers)}"
        script = Script(failures, after)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(script, server)  # type: ignore[no-untyped-call]
        server.add_insecure_port(path)
        server.start()
        servers.append(server)
        return script, path

    yield start
    for server in servers:
        server.stop(None).wait()


async def events(address: str, *, asynchronous: bool, retry: RetryPolicy = FAST) -> list[str]:
    if not asynchronous:
        with Client(address, retry=retry) as client:
            return [event.text for event in client.chat("a")]
    async with AsyncClient(address, retry=retry) as client:
        return [event.text async for event in client.chat("a")]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_nothing_is_sent_again_once_an_event_has_come(
    scripted: Any, asynchronous: bool
) -> None:
    script, address = scripted(2, 0)
    assert await events(address, asynchronous=asynchronous) == ["0", "1", "2", "3"]
    assert script.calls == 3
    script, address = scripted(2, 1)
    with pytest.raises(CallError, match="UNAVAILABLE: broken by the script"):
        await events(address, asynchronous=asynchronous)
    assert script.calls == 1


async def left(script: Script) -> bool:
    end = time.monotonic() + 5
    while not script.left and time.monotonic() < end:
        time.sleep(0.01)
    return script.left == 1


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_closing_ends_the_work(scripted: Any, asynchronous: bool) -> None:
    script, address = scripted(0, 0)
    endless = ChatSampling(seed=99)
    if asynchronous:
        async with AsyncClient(address) as client:
            stream = client.chat("a", sampling=endless)
            assert [(await anext(stream)).text for _ in range(4)] == ["0", "1", "2", "3"]
            assert script.waits.wait(5)
            await stream.aclose()
            assert await left(script)
    else:
        with Client(address) as blocking:
            answer = blocking.chat("a", sampling=endless)
            assert [next(answer).text for _ in range(4)] == ["0", "1", "2", "3"]
            assert script.waits.wait(5)
            answer.close()
            assert await left(script)
