"""Answers as text: stop sequences on a real engine, whose slot is free when one ends an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch

from mllm_adapter.chat_model import ChatModel, TextDelta
from mllm_adapter.engines.base import Sampling
from mllm_adapter.model.prompt import PromptMessage

LONG = Sampling(max_tokens=40, min_tokens=40)


@pytest_asyncio.fixture
async def model(chat_bundle: Path) -> AsyncIterator[ChatModel]:
    """With room for one conversation."""
    opened = ChatModel.open(chat_bundle / "adapter", max_batch=1)
    yield opened
    await opened.close()


@pytest.fixture
def embedded(model: ChatModel) -> torch.Tensor:
    return model.embed(model.prompt([PromptMessage(role="user", text="What is this?")]), [])


def text_of(deltas: list[TextDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_an_answer_ends_before_a_stop_sequence(
    model: ChatModel, embedded: torch.Tensor
) -> None:
    whole = [delta async for delta in model.answer(embedded, LONG)]
    text = text_of(whole)
    assert (len(whole), whole[-1].finish, whole[-1].stop) == (40, "length", "")
    # Four characters in the middle are from several tokens.
    middle = len(text) // 2
    stop = text[middle : middle + 4]
    expected = text[: text.index(stop)]
    some = [delta async for delta in model.answer(embedded, LONG, ["no such text", stop])]
    assert (text_of(some), some[-1].finish, some[-1].stop) == (expected, "stop", stop)
    assert sum(delta.tokens for delta in some) == len(some) < 40
    assert all(not (delta.finish or delta.stop) for delta in some[:-1])


async def test_what_could_become_a_stop_sequence_is_sent_at_the_end(
    model: ChatModel, embedded: torch.Tensor
) -> None:
    for sampling in (LONG, Sampling(max_tokens=40)):
        text = text_of([delta async for delta in model.answer(embedded, sampling)])
        held = [delta async for delta in model.answer(embedded, sampling, [text[-5:] + "\x00"])]
        assert text_of(held) == text
        assert held[-1].stop == ""
        assert held[-1].text.endswith(text[-5:])


async def test_a_stop_sequence_frees_the_slot(
    model: ChatModel, embedded: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm: Any = model.engine._model  # type: ignore[attr-defined]
    forward, steps = llm.forward, 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        return forward(*args, **options)

    monkeypatch.setattr(llm, "forward", counted)
    long = Sampling(max_tokens=200, min_tokens=200)
    first = text_of([delta async for delta in model.answer(embedded, Sampling(max_tokens=4))])[0]
    async with aclosing(model.answer(embedded, long, [first])) as stopped:
        last = await anext(stopped)
        while not last.finish:
            last = await anext(stopped)
        assert last.stop == first
        # Its caller has not come back for more: the other one has the only slot all the same.
        short = [delta async for delta in model.answer(embedded, Sampling(max_tokens=1))]
        assert short[-1].finish
    assert steps < 100
