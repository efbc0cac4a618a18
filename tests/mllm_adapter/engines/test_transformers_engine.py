"""The transformers engine: continuous batching, isolation, cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import pytest_asyncio
import torch

from bundle import bounded_log
from mllm_adapter.engines.base import GenerationError, Sampling, TokenDelta
from mllm_adapter.engines.transformers_engine import TransformersEngine, choose_token
from tests.mllm_adapter.llms import tiny_llm

GREEDY = Sampling(max_tokens=12)


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_llm(request.param)[0]


@pytest_asyncio.fixture
async def engine(model: Any) -> AsyncIterator[TransformersEngine]:
    opened = TransformersEngine(model, end=[299], max_batch=4)
    yield opened
    await opened.close()


def prompts(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3 + 5 * i % 17, 64, generator=generator) for i in range(count)]


def alone(model: Any, prompt: torch.Tensor, tokens: int = 12, **options: float) -> list[int]:
    """The answer of transformers' own generate."""
    tokens_of_row = model.generate(
        inputs_embeds=prompt[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=299,
        pad_token_id=299,
        **options,
    )[0].tolist()
    return [token for token in tokens_of_row if token != 299]


async def collect(
    engine: TransformersEngine, prompt: torch.Tensor, sampling: Sampling
) -> list[TokenDelta]:
    return [delta async for delta in engine.generate(prompt, sampling)]


def ids(deltas: list[TokenDelta]) -> list[int]:
    return [token for delta in deltas for token in delta.ids]


async def test_more_prompts_than_slots_each_as_if_it_were_alone(
    engine: TransformersEngine, model: Any
) -> None:
    several = prompts(11)
    answers = await asyncio.gather(*(collect(engine, p, GREEDY) for p in several))
    assert [ids(deltas) for deltas in answers] == [alone(model, p) for p in several]
    assert len({tuple(ids(deltas)) for deltas in answers}) > 5
    assert all(deltas[-1].finish in ("stop", "length") for deltas in answers)
    assert all(not delta.finish for deltas in answers for delta in deltas[:-1])


async def test_one_joins_and_one_leaves_in_the_middle(
    engine: TransformersEngine, model: Any
) -> None:
    first, second, third = prompts(3)
    long = Sampling(max_tokens=30)
    stream = engine.generate(first, long)
    head = [await anext(stream) for _ in range(4)]
    leaving = engine.generate(second, long)
    await anext(leaving)
    rest = asyncio.create_task(collect(engine, third, long))
    await leaving.aclose()
    tail = [delta async for delta in stream]
    assert ids(head + tail) == alone(model, first, 30)
    assert ids(await rest) == alone(model, third, 30)


async def test_a_closed_stream_frees_its_slot_within_a_step(model: Any) -> None:
    steps = 0
    gate = threading.Semaphore(0)
    forward = model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        gate.acquire()
        steps += 1
        return forward(*args, **kwargs)

    model.forward = counted
    engine = TransformersEngine(model, end=[299], max_batch=1)
    try:
        async with aclosing(engine.generate(prompts(1)[0], Sampling(max_tokens=200))) as stream:
            gate.release(2)
            await anext(stream)
        gate.release(1000)
        other = await collect(engine, prompts(2)[1], Sampling(max_tokens=1))
        assert len(ids(other)) == 1 or other[-1].finish == "stop"
        assert steps <= 4
    finally:
        model.forward = forward
        gate.release(1000)
        await engine.close()


async def test_a_failing_model_fails_its_batch_and_the_next_one_is_fine(model: Any) -> None:
    forward, broken = model.forward, True

    def failing(*args: Any, **kwargs: Any) -> Any:
        if broken:
            raise RuntimeError("/secret/path at 0x7f00")
        return forward(*args, **kwargs)

    model.forward = failing
    engine = TransformersEngine(model, end=[299])
    try:
        with pytest.raises(GenerationError, match="^decoding failed$"):
            await collect(engine, prompts(1)[0], GREEDY)
        broken = False
        assert ids(await collect(engine, prompts(1)[0], GREEDY)) == alone(model, prompts(1)[0])
    finally:
        model.forward = forward
        await engine.close()


async def test_an_answer_may_be_made_to_go_on(engine: TransformersEngine, model: Any) -> None:
    first = alone(model, prompts(1)[0])[0]
    ending = TransformersEngine(model, end=[first])
    try:
        assert ids(await collect(ending, prompts(1)[0], GREEDY)) == []
        longer = Sampling(max_tokens=5, min_tokens=5)
        tokens = ids(await collect(ending, prompts(1)[0], longer))
        assert len(tokens) == 5
        assert first not in tokens
    finally:
        await ending.close()


async def test_chance_repeats_with_its_seed(engine: TransformersEngine) -> None:
    prompt = prompts(1)[0]

    async def drawn(seed: int, **more: float) -> list[int]:
        sampling = Sampling(max_tokens=16, temperature=1.0, seed=seed, **more)  # type: ignore[arg-type]
        return ids(await collect(engine, prompt, sampling))

    assert await drawn(1) == await drawn(1)
    assert len({tuple(await drawn(seed)) for seed in range(6)}) > 1


def test_top_p_leaves_the_likeliest_tokens() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    random = torch.Generator().manual_seed(0)

    def drawn_tokens(top_p: float) -> set[int]:
        sampling = Sampling(temperature=1.0, top_p=top_p)
        return {choose_token(logits, sampling, random) for _ in range(200)}

    assert drawn_tokens(0.4) == {0}
    assert drawn_tokens(0.7) == {0, 1}
    assert drawn_tokens(0.9) == {0, 1, 2}
    assert drawn_tokens(1.0) == {0, 1, 2, 3}


PENALTIES: dict[str, Sampling] = {
    "none": Sampling(max_tokens=30),
    "presence": Sampling(max_tokens=30, presence_penalty=1.5),
    "less presence": Sampling(max_tokens=30, presence_penalty=-2.0),
    "frequency": Sampling(max_tokens=30, frequency_penalty=0.7),
    "repetition": Sampling(max_tokens=30, repetition_penalty=1.3),
    "less repetition": Sampling(max_tokens=30, repetition_penalty=0.01),
    "all": Sampling(
        max_tokens=30, presence_penalty=0.5, frequency_penalty=-0.3, repetition_penalty=1.1
    ),
}


def penalised(model: Any, prompt: torch.Tensor, sampling: Sampling) -> list[int]:
    """The greedy answer by the definitions, one token of the vocabulary at a time."""
    tokens: list[int] = []
    while len(tokens) < sampling.max_tokens:
        read = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(tokens).long())])
        with torch.inference_mode():
            logits = model(inputs_embeds=read[None]).logits[0, -1].tolist()
        for token in set(tokens):
            logit, penalty = logits[token], sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
            logit -= sampling.frequency_penalty * tokens.count(token)
            logits[token] = logit - sampling.presence_penalty
        likeliest = max(range(len(logits)), key=logits.__getitem__)
        if likeliest == 299:
            break
        tokens.append(likeliest)
    return tokens


async def test_penalties_are_as_they_are_defined(engine: TransformersEngine, model: Any) -> None:
    [prompt] = prompts(1)
    answers = await asyncio.gather(
        *(collect(engine, prompt, sampling) for sampling in PENALTIES.values())
    )
    found = {name: ids(deltas) for name, deltas in zip(PENALTIES, answers, strict=True)}
    assert found == {name: penalised(model, prompt, s) for name, s in PENALTIES.items()}
    assert found["none"] == alone(model, prompt, 30)
    assert found["repetition"] == alone(model, prompt, 30, repetition_penalty=1.3)
    assert len({tuple(answer) for answer in found.values()}) >= 5


def test_penalties_change_the_chance_of_the_answer_s_tokens_alone() -> None:
    logits = torch.zeros(4)
    random = torch.Generator().manual_seed(0)

    def drawn_tokens(counts: dict[int, int], **penalty: float) -> set[int]:
        sampling = Sampling(temperature=0.05, **penalty)  # type: ignore[arg-type]
        return {choose_token(logits, sampling, random, counts) for _ in range(100)}

    assert drawn_tokens({}, presence_penalty=2.0) == {0, 1, 2, 3}
    assert drawn_tokens({1: 1, 3: 5}, presence_penalty=2.0) == {0, 2}
    assert drawn_tokens({1: 1, 3: 5}, presence_penalty=-2.0) == {1, 3}
    assert drawn_tokens({1: 1, 3: 5}, frequency_penalty=-2.0) == {3}
    assert logits.tolist() == [0.0] * 4


async def test_logits_that_are_no_numbers_fail_their_answer_alone(
    engine: TransformersEngine, model: Any
) -> None:
    poisoned = prompts(1)[0]
    poisoned[0, 0] = torch.nan
    good = prompts(2)[1]
    failed, answered = await asyncio.gather(
        collect(engine, poisoned, GREEDY), collect(engine, good, GREEDY), return_exceptions=True
    )
    assert isinstance(failed, GenerationError)
    assert isinstance(answered, list)
    assert ids(answered) == alone(model, good)


async def test_a_broken_model_does_not_fill_the_log(
    model: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_log, "FIRST_LINES", 2)
    engine = TransformersEngine(model, end=[299], max_batch=4)
    poisoned = torch.full_like(prompts(1)[0], torch.nan)
    for _ in range(5):
        with pytest.raises(GenerationError):
            await collect(engine, poisoned, GREEDY)
    await engine.close()
    line = "the language model gives logits that are not finite"
    assert caplog.messages == [line, line, f"3 more lines like this one: {line}"]
