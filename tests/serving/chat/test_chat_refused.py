"""What ChatService refuses, and how it names it: F-05 and F-34."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from sparseclip import CallError
from sparseclip.v1 import chat_pb2
from tests.serving.support.chat_requests import (
    ABLATE,
    ADD,
    CHAT,
    SCALE,
    SET,
    Edit,
    image,
    question,
    replies,
    user,
)
from tests.serving.support.running_server import Running, refused, serving, unharmed
from tests.serving.support.wire_contract import messages
from tests.support.explore import examples

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOG = Edit(phrase="dog", op=SET)
ROLE = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, text="a")
AT = "messages[0].images[0]"
EDIT = f"{AT}.steering.edits"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[Running]:
    async with serving(chat_bundle) as running:
        yield running


def said(*entries: chat_pb2.ChatMessage, **sampling: Any) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(messages=entries, sampling=chat_pb2.ChatSampling(**sampling))


REFUSED: dict[str, tuple[chat_pb2.ChatRequest, str]] = {
    "nothing said": (said(), "messages"),
    "too many messages": (said(*[user("a")] * 129), "messages"),
    "too many images": (said(user("a", *[image()] * 33)), "messages"),
    "too many tokens": (said(user("zq" * 150)), "messages"),
    "no role": (said(chat_pb2.ChatMessage(text="a")), "messages[0].role"),
    "nobody asks": (said(user("a"), ROLE), "messages[1].role"),
    "a late system": (
        said(user("a"), chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_SYSTEM, text="a"), user("a")),
        "messages[1].role",
    ),
    "an empty message": (said(user(" ")), "messages[0].text"),
    "a long text": (said(user("a" * 8193)), "messages[0].text"),
    "an answer with an image": (
        said(user("a"), chat_pb2.ChatMessage(role=ROLE.role, images=[image()]), user("a")),
        "messages[1].images",
    ),
    "an empty image": (said(user("a", image(data=b""))), f"{AT}.data"),
    "no image": (said(user("a", image(data=b"<svg/>"))), f"{AT}.data"),
    "an answer too long": (question(max_tokens=1025), "sampling.max_tokens"),
    "an answer beyond the context": (question(max_tokens=250), "sampling.max_tokens"),
    "too cold": (question(temperature=1e-30), "sampling.temperature"),
    "too hot": (question(temperature=2.1), "sampling.temperature"),
    "less than no chance": (question(top_p=-0.1), "sampling.top_p"),
    "more than all chance": (question(top_p=1.1), "sampling.top_p"),
    "17 stop sequences": (question(stop=["a"] * 17), "sampling.stop"),
    "an empty stop sequence": (question(stop=["a", "b", ""]), "sampling.stop[2]"),
    "a long stop sequence": (question(stop=["a", "é" * 65]), "sampling.stop[1]"),
    "presence": (question(presence_penalty=2.1), "sampling.presence_penalty"),
    "presence below": (question(presence_penalty=-2.1), "sampling.presence_penalty"),
    "presence that is no number": (
        question(presence_penalty=float("nan")),
        "sampling.presence_penalty",
    ),
    "frequency": (question(frequency_penalty=2.1), "sampling.frequency_penalty"),
    "frequency below": (question(frequency_penalty=-2.1), "sampling.frequency_penalty"),
    "endless frequency": (question(frequency_penalty=float("inf")), "sampling.frequency_penalty"),
    "repetition": (question(repetition_penalty=2.1), "sampling.repetition_penalty"),
    "repetition below": (question(repetition_penalty=0.009), "sampling.repetition_penalty"),
    "negative repetition": (question(repetition_penalty=-1), "sampling.repetition_penalty"),
    "repetition that is no number": (
        question(repetition_penalty=float("nan")),
        "sampling.repetition_penalty",
    ),
    "strength": (said(user("a", image(strength=1.5))), f"{AT}.steering.strength"),
    "65 edits": (question(*[Edit(concept_id=i, op=ABLATE) for i in range(65)]), EDIT),
    "no target": (question(DOG, Edit(op=SET, value=1)), f"{EDIT}[1].target"),
    "no operation": (question(DOG, Edit(concept_id=1)), f"{EDIT}[1].op"),
    "twice by id": (
        question(Edit(concept_id=1, op=ABLATE), Edit(concept_id=1, op=SET, value=1)),
        f"{EDIT}[1].concept_id",
    ),
    "twice by name": (
        question(Edit(concept_id=5, op=ABLATE), Edit(concept_name="dog", op=SET, value=1)),
        f"{EDIT}[1].concept_name",
    ),
    "a phrase twice": (question(DOG, Edit(phrase="dog", op=ABLATE)), f"{EDIT}[1].phrase"),
    "an unknown id": (question(Edit(concept_id=256, op=ABLATE)), f"{EDIT}[0].concept_id"),
    "an id beyond all": (question(Edit(concept_id=2**32 - 1, op=ABLATE)), f"{EDIT}[0].concept_id"),
    "an unknown name": (question(Edit(concept_name="no", op=ABLATE)), f"{EDIT}[0].concept_name"),
    "an empty phrase": (question(Edit(phrase=" ", op=ABLATE)), f"{EDIT}[0].phrase"),
    "a long phrase": (question(Edit(phrase="a" * 8193, op=ABLATE)), f"{EDIT}[0].phrase"),
    "nothing to add": (question(Edit(concept_id=1, op=ADD)), f"{EDIT}[0].value"),
    "nothing to scale by": (question(Edit(phrase="dog", op=SCALE)), f"{EDIT}[0].value"),
    "a negative value": (question(Edit(concept_id=1, op=SET, value=-1)), f"{EDIT}[0].value"),
    "a negative factor": (
        question(DOG, Edit(phrase="cat", op=SCALE, value=-1)),
        f"{EDIT}[1].value",
    ),
    "a value too great": (question(Edit(concept_id=1, op=ADD, value=1e9)), f"{EDIT}[0].value"),
    "no number": (
        question(DOG, DOG, Edit(concept_id=1, op=SET, value=float("nan"))),
        f"{EDIT}[2].value",
    ),
    "no such patch": (question(Edit(concept_id=1, op=ABLATE, patches=[16])), f"{EDIT}[0].patches"),
    "too many patches": (
        question(Edit(concept_id=1, op=ABLATE, patches=[0] * 5000)),
        f"{EDIT}[0].patches",
    ),
    "top of a concept": (question(Edit(concept_id=1, op=ABLATE, top=3)), f"{EDIT}[0].top"),
    "top too great": (question(Edit(phrase="dog", op=ABLATE, top=1001)), f"{EDIT}[0].top"),
    "too many phrases": (
        said(
            *(
                user("a", image(*[Edit(phrase=f"{i} {j}", op=ABLATE) for j in range(60)]))
                for i in range(5)
            )
        ),
        "messages",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_f34_what_is_wrong_is_named(chatty: Running, name: str) -> None:
    request, field = REFUSED[name]
    async with unharmed(chatty):
        error = await refused(replies(chatty, request))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]


async def test_f34_unknown_enums(chatty: Running) -> None:
    raw = question(Edit(concept_id=1, op=SET, value=1)).SerializeToString()
    changed = raw.replace(b"\x08\x01\x20\x01", b"\x08\x01\x20\x63")  # op = 99
    assert changed != raw
    error = await refused(chatty.raw(CHAT, changed))
    assert [violation.field for violation in error.violations] == [f"{EDIT}[0].op"]


async def test_f34_extreme_plans_give_an_answer(chatty: Running) -> None:
    edits = [Edit(concept_id=i, op=SET, value=1e4) for i in range(63)]
    edits.append(Edit(phrase="a dog", op=ADD, value=1e4, top=1000, patches=[15]))
    async with unharmed(chatty):
        events = await replies(chatty, question(*edits))
    assert events[-1].end.usage.completion_tokens > 0
    assert len(events[0].start.images[0].edited) == 64
    assert events[0].start.images[0].edited_total > 64


@examples(60)
@given(data=st.data())
async def test_f05_whatever_parses_gets_a_defined_answer(
    chatty: Running, data: st.DataObject
) -> None:
    request = question(DOG)
    request.MergeFrom(data.draw(messages(chat_pb2.ChatRequest.DESCRIPTOR)))
    request.ClearField("model")
    [outcome] = await asyncio.gather(replies(chatty, request), return_exceptions=True)
    if isinstance(outcome, BaseException):
        assert isinstance(outcome, grpc.RpcError)
        assert CallError.from_rpc(outcome).code is grpc.StatusCode.INVALID_ARGUMENT
