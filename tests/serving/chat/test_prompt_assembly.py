"""How long a prompt and its answer may be, and what the language model is given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.concepts import ConceptVocabulary
from serving.batching.item_results import StageTimes
from serving.chat.chat_request import (
    ChatCall,
    ConversationTurn,
    RequestedEdit,
    SamplingRequest,
    SteeredImage,
)
from serving.chat.image_codes import ConversationCodes
from serving.chat.prompt_assembly import DEFAULT_MAX_TOKENS, PromptAssembler
from serving.core.errors import ServingError
from serving.core.limits import LimitsConfig
from serving.core.requests import ModelSelector
from tests.serving.chat.codes import codes_of
from tests.support.tiny_model import tiny_concepts


class FakeModel:
    """Stands for mllm_adapter.chat_model.ChatModel: every character is a token."""

    def __init__(self, context: int) -> None:
        self.context = context
        words = SimpleNamespace(top=3, strength=2.0)
        self.adapter = SimpleNamespace(config=SimpleNamespace(patches=16, words=words))
        self.engine = SimpleNamespace(description="fake 1", has_repetition_penalty=False)
        self.embedded: list[Any] = []

    def prompt(self, messages: Sequence[Any]) -> Any:
        text = "".join(message.text for message in messages)
        return SimpleNamespace(ids=list(text), images=sum(message.images for message in messages))

    def embed(self, prompt: Any, images: Sequence[Any]) -> str:
        self.embedded = list(images)
        return "embedded"


def assembler(context: int = 1_000, **limits: int) -> tuple[PromptAssembler, FakeModel]:
    model = FakeModel(context)
    concepts = ConceptVocabulary(tuple(tiny_concepts()))
    config = LimitsConfig(**limits)  # type: ignore[arg-type]
    return PromptAssembler(model, concepts, config), model


def call(text: str, *images: SteeredImage, max_tokens: int = 0, **more: float) -> ChatCall:
    turn = ConversationTurn(role="user", text=text, images=images)
    sampling = SamplingRequest(
        max_tokens=max_tokens,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        **more,  # type: ignore[arg-type]
    )
    return ChatCall(selector=ModelSelector(), turns=(turn,), sampling=sampling)


@pytest.mark.parametrize(
    ("tokens", "context", "max_tokens", "expected"),
    [
        (100, 1_000, 0, DEFAULT_MAX_TOKENS),
        (100, 1_000, 300, 300),
        (100, 150, 0, 50),  # the context ends before the default does
        (100, 150, 50, 50),
        (99, 100, 0, 1),
    ],
)
def test_an_answer_has_the_requested_length_or_what_fits(
    tokens: int, context: int, max_tokens: int, expected: int
) -> None:
    assemble, _ = assembler(context)
    assert assemble.tokenize(call("a" * tokens, max_tokens=max_tokens)).max_tokens == expected


@pytest.mark.parametrize(
    ("tokens", "context", "max_tokens", "field"),
    [
        (201, 1_000, 0, "messages"),  # over limits.prompt_tokens
        (100, 100, 0, "messages"),  # the context has no room for an answer
        (100, 150, 51, "sampling.max_tokens"),
    ],
)
def test_a_prompt_or_answer_that_is_too_long_names_the_field(
    tokens: int, context: int, max_tokens: int, field: str
) -> None:
    assemble, _ = assembler(context, prompt_tokens=200)
    with pytest.raises(ServingError) as caught:
        assemble.tokenize(call("a" * tokens, max_tokens=max_tokens))
    assert caught.value.field == field


def test_a_penalty_that_the_engine_does_not_have_is_refused() -> None:
    assemble, model = assembler()
    with pytest.raises(ServingError, match="must be 0 or 1: fake 1 does not have it") as caught:
        assemble.tokenize(call("a", repetition_penalty=1.2))
    assert caught.value.field == "sampling.repetition_penalty"
    assemble.tokenize(call("a", repetition_penalty=1.0))
    model.engine.has_repetition_penalty = True
    assemble.tokenize(call("a", repetition_penalty=1.2))


def test_each_image_has_its_codes_its_plan_and_its_audit() -> None:
    assemble, model = assembler()
    edit = RequestedEdit(target=7, op="SET", value=3.0)
    steered = SteeredImage(data=b"a", edits=(edit,), strength=1.0, at="at")
    plain = SteeredImage(data=b"b", edits=(), strength=1.0, at="at")
    chat = call("What are these?", steered, plain, presence_penalty=0.5, frequency_penalty=-1.0)
    tokenized = assemble.tokenize(chat)
    assert tokenized.digests == tuple(hashlib.sha256(data).digest() for data in (b"a", b"b"))
    codes = ConversationCodes(
        images={digest: codes_of(4, seed) for seed, digest in enumerate(tokenized.digests)},
        phrases={},
        times=StageTimes(),
    )
    assembled = assemble.assemble(chat, tokenized, codes)
    assert assembled.embedded == "embedded"
    sampling = assembled.sampling
    assert (sampling.temperature, sampling.seed) == (0.5, 7)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -1.0)
    assert [image.key for image in model.embedded] == list(tokenized.digests)
    assert [edit.concept for edit in model.embedded[0].plan.edits] == [7]
    first, second = assembled.audits
    assert [(change.concept_id, change.after) for change in first.edited] == [(7, 3.0)]
    assert second.before == second.after
