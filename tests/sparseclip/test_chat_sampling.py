"""How a caller chooses tokens and ends an answer, through the typed client on a real server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.in_process import local_server
from sparseclip import AsyncClient, ChatEnd, ChatSampling, ChatStart, Client
from sparseclip._convert_chat import chat_request
from sparseclip.v1 import types_pb2
from tests.serving.support.running_server import PNG

SHORT = ChatSampling(max_tokens=12)


@pytest.fixture(scope="module")
def served(chat_bundle: Path) -> Iterator[str]:
    with local_server(chat_bundle) as opened:
        yield opened


async def test_stop_sequences_penalties_and_the_context(served: str) -> None:
    with Client(served) as client:
        text = "".join(event.text for event in client.chat("What?", [PNG], sampling=SHORT))
        stop = text[2:4]
        stopping = ChatSampling(max_tokens=12, stop=["no such text", stop])
        start, *deltas, end = client.chat("What?", [PNG], sampling=stopping)
        assert isinstance(start, ChatStart)
        assert isinstance(end, ChatEnd)
        assert "".join(delta.text for delta in deltas) == text[: text.index(stop)]
        assert (end.finish, end.stop) == ("stop", stop)
        assert start.prompt_tokens == end.usage.prompt_tokens > 17
        assert start.context_tokens == end.usage.context_tokens > start.prompt_tokens
        penalties = ChatSampling(max_tokens=12, presence_penalty=-2, repetition_penalty=0.5)
        other = [event.text for event in client.chat("What?", [PNG], sampling=penalties)]
        assert "".join(other) != text
    async with AsyncClient(served) as asynchronous:
        events = [e async for e in asynchronous.chat("What?", [PNG], sampling=stopping)]
        assert "".join(event.text for event in events) == text[: text.index(stop)]
        last = events[-1]
        assert isinstance(last, ChatEnd)
        assert (last.stop, last.usage) == (end.stop, end.usage)


def test_every_field_of_sampling_is_sent() -> None:
    sampling = ChatSampling(
        max_tokens=5,
        temperature=0.5,
        top_p=0.25,
        seed=7,
        stop=["a", "\n"],
        presence_penalty=-1.5,
        frequency_penalty=1.25,
        repetition_penalty=0.75,
    )
    sent = chat_request(types_pb2.ModelSelector(), [], sampling).sampling
    fields = dataclasses.asdict(sampling) | {"stop": ["a", "\n"]}
    assert {field.name: value for field, value in sent.ListFields()} == fields
    assert set(fields) == set(sent.DESCRIPTOR.fields_by_name)
