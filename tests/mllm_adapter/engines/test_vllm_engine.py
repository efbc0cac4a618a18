"""vLLM beside transformers on the shipped bundle: the same greedy tokens, whatever is in flight.

Run by `make test-vllm`, in an environment of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import psutil
import pytest
import pytest_asyncio
import torch

from bundle.store import Bundle, default_bundle, open_bundle
from mllm_adapter.chat_model import ChatModel, EncodedImage
from mllm_adapter.data.code_tables import BackboneGraphs
from mllm_adapter.data.instructions import NAME_QUESTIONS
from mllm_adapter.engines.base import GenerationEngine, GenerationError, Sampling
from mllm_adapter.model.prompt import PromptMessage
from mllm_adapter.steering.plan import SteeringPlan
from mllm_adapter.steering.text_to_concepts import TextCodes
from tests.support.paths import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

IMAGES = ROOT / "docs" / "images"
NEW = ("rocket", "red apple", "dog", "sailboat", "hot beverage", "tulip")
GREEDY = Sampling(max_tokens=16)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(default_bundle())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(bundle: Bundle) -> AsyncIterator[dict[str, ChatModel]]:
    """Both engines on one adapter, vLLM in float32 as transformers is."""
    folder = bundle.root / "adapter"
    opened = {
        "transformers": ChatModel.open(folder),
        # The small model needs little; by default vLLM wants nearly all of the machine's memory.
        "vllm": ChatModel.open(folder, "vllm", dtype="float32", gpu_memory_utilization=0.4),
    }
    yield opened
    for model in opened.values():
        await model.close()


@pytest.fixture(scope="module")
def prompts(bundle: Bundle, engines: dict[str, ChatModel]) -> list[torch.Tensor]:
    """Images unsteered, and each under several plans."""
    from PIL import Image

    graphs = BackboneGraphs(bundle, threads=1)
    labels = TextCodes(graphs.texts, graphs.concepts)
    model, embedded = engines["transformers"], []
    prompt = model.prompt([PromptMessage(role="user", text=NAME_QUESTIONS[0], images=1)])
    for path in sorted(IMAGES.glob("*.png")):
        with Image.open(path) as file:
            pixels = bundle.preprocessor(file.convert("RGBA"))[None]
        codes = graphs.table([pixels], 1, path.stem).codes([0])
        plans = [SteeringPlan(), *(labels.swap(path.stem, new, 32, 2.0) for new in NEW)]
        for plan in plans:
            image = EncodedImage(key=path.name.encode(), codes=codes, plan=plan)
            embedded.append(model.embed(prompt, [image]))
    return embedded


async def tokens(
    engine: GenerationEngine, prompt: torch.Tensor, sampling: Sampling = GREEDY
) -> list[int]:
    async with aclosing(engine.generate(prompt, sampling)) as deltas:
        return [token async for delta in deltas for token in delta.ids]


async def test_greedy_answers_of_both_engines_are_equal(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    answers = {
        name: await asyncio.gather(*(tokens(model.engine, p) for p in prompts))
        for name, model in engines.items()
    }
    assert answers["vllm"] == answers["transformers"]
    assert len({tuple(answer) for answer in answers["vllm"]}) >= len(NEW)


@pytest.mark.parametrize(
    "penalty",
    [{"presence_penalty": 2.0}, {"frequency_penalty": 1.5}, {"frequency_penalty": -1.0}],
)
async def test_penalties_of_both_engines_are_equal(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor], penalty: dict[str, float]
) -> None:
    # Beyond the end token the answers repeat themselves, so that penalties change them.
    long = {"max_tokens": 24, "min_tokens": 24}
    sampling = Sampling(**long, **penalty)  # type: ignore[arg-type]
    answers = {
        name: await asyncio.gather(*(tokens(model.engine, p, sampling) for p in prompts[:6]))
        for name, model in engines.items()
    }
    assert answers["vllm"] == answers["transformers"]
    plain = [await tokens(engines["vllm"].engine, p, Sampling(**long)) for p in prompts[:6]]  # type: ignore[arg-type]
    assert answers["vllm"] != plain


async def test_a_repetition_penalty_is_refused(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    """See VllmEngine.has_repetition_penalty. The server refuses it before, by this property."""
    assert engines["transformers"].engine.has_repetition_penalty
    engine = engines["vllm"].engine
    assert not engine.has_repetition_penalty
    with pytest.raises(GenerationError, match="repetition penalty"):
        await tokens(engine, prompts[0], Sampling(repetition_penalty=1.2))


async def test_a_neighbour_s_plan_changes_nothing(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    engine = engines["vllm"].engine
    alone = [await tokens(engine, prompt) for prompt in prompts[:4]]
    assert await asyncio.gather(*(tokens(engine, prompt) for prompt in prompts[:4])) == alone


async def test_a_closed_stream_leaves_the_others_alone(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    engine = engines["vllm"].engine
    expected = await tokens(engine, prompts[1])
    leaving = engine.generate(prompts[0], Sampling(max_tokens=200))
    await anext(leaving)
    staying = asyncio.create_task(tokens(engine, prompts[1]))
    await leaving.aclose()
    assert await staying == expected


async def test_an_answer_ends_where_it_must(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    for model in engines.values():
        short = [p async for p in model.engine.generate(prompts[0], Sampling(max_tokens=1))]
        assert short[-1].finish == "length"
        assert sum(len(delta.ids) for delta in short) == 1
        whole = [p async for p in model.engine.generate(prompts[0], Sampling(max_tokens=64))]
        assert whole[-1].finish == "stop"


async def test_an_engine_whose_process_died_says_so(
    engines: dict[str, ChatModel], prompts: list[torch.Tensor]
) -> None:
    """The last test: the engine is of no use after it."""
    engine = engines["vllm"].engine
    assert not engine.ended
    for child in psutil.Process().children(recursive=True):
        if "EngineCore" in child.name() or "EngineCore" in " ".join(child.cmdline()):
            child.kill()
    with pytest.raises(GenerationError):
        await tokens(engine, prompts[0])
    assert engine.ended
