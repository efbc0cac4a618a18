"""Messages of ChatService and the server's types. tests/serving/chat has what is refused."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from bundle.concepts import ConceptVocabulary
from serving.batching.item_results import StageTimes
from serving.chat.chat_request import (
    ConceptChange,
    DeltaEvent,
    EndEvent,
    ImageAudit,
    Phrase,
    RequestedEdit,
    SamplingRequest,
    StartEvent,
)
from serving.core.coverage import ItemCoverage
from serving.core.errors import ServingError
from serving.core.limits import LimitsConfig
from serving.core.requests import ModelId
from serving.rpc.convert import chat as convert
from sparseclip.v1 import chat_pb2, types_pb2
from tests.serving.support.chat_requests import ABLATE, ADD, SET, Edit, image, user
from tests.support.tiny_model import tiny_concepts

MODEL: Any = SimpleNamespace(
    id=ModelId(name="tiny", version="1"),
    concepts=ConceptVocabulary(tuple(tiny_concepts())),
)


def test_a_call_holds_turns_images_and_edits() -> None:
    edits = (
        Edit(phrase="dog", op=SET, top=2),
        Edit(concept_id=7, op=ADD, value=-0.5, patches=[1, 3]),
        Edit(concept_name="star", op=ABLATE),
    )
    request = chat_pb2.ChatRequest(
        messages=[
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_SYSTEM, text="Be brief."),
            user("What is this?", image(*edits), image(data=b"second", strength=0.25)),
        ]
    )
    call = convert.chat_call(request, LimitsConfig())
    assert [(turn.role, turn.text) for turn in call.turns] == [
        ("system", "Be brief."),
        ("user", "What is this?"),
    ]
    first, second = call.images
    assert first.edits == (
        RequestedEdit(target=Phrase(text="dog", top=2), op="SET"),
        RequestedEdit(target=7, op="ADD", value=-0.5, patches=(1, 3)),
        RequestedEdit(target="star", op="ABLATE"),
    )
    assert [edit.field for edit in first.edits] == ["phrase", "concept_id", "concept_name"]
    assert (first.strength, second.strength) == (1.0, 0.25)  # an absent strength is the whole
    assert second.at == "messages[1].images[1]"
    assert (call.sampling.max_tokens, call.sampling.top_p) == (0, 1.0)


def test_phrases_count_once_each() -> None:
    phrases = [Edit(phrase=name, op=SET) for name in ("dog", "cat")]
    images = [image(*phrases) for _ in range(3)]
    request = chat_pb2.ChatRequest(messages=[user("What?", *images)])
    convert.chat_call(request, LimitsConfig(texts_per_call=2))
    with pytest.raises(ServingError, match="more than 1 phrases"):
        convert.chat_call(request, LimitsConfig(texts_per_call=1))


def sampled(**sampling: Any) -> SamplingRequest:
    request = chat_pb2.ChatRequest(
        messages=[user("What?")], sampling=chat_pb2.ChatSampling(**sampling)
    )
    return convert.chat_call(request, LimitsConfig()).sampling


def test_stop_sequences_and_penalties() -> None:
    plain = sampled()
    assert (plain.stop, plain.presence_penalty, plain.frequency_penalty) == ((), 0.0, 0.0)
    assert plain.repetition_penalty == sampled(repetition_penalty=1).repetition_penalty == 1.0
    stops = ["\n", " ", "é" * 64, *"abcdefghijklm"]
    full = sampled(stop=stops, presence_penalty=-2, frequency_penalty=2, repetition_penalty=1.25)
    assert full.stop == tuple(stops)
    assert (full.presence_penalty, full.frequency_penalty) == (-2.0, 2.0)
    assert full.repetition_penalty == 1.25
    for bound in (0.01, 2.0):
        found = sampled(repetition_penalty=bound).repetition_penalty
        assert found == pytest.approx(bound)


@pytest.mark.parametrize("temperature", [0.0, 0.01, 2.0])
def test_the_bounds_of_the_temperature_are_within_it(temperature: float) -> None:
    sampling = chat_pb2.ChatSampling(temperature=temperature)
    request = chat_pb2.ChatRequest(messages=[user("What?")], sampling=sampling)
    call = convert.chat_call(request, LimitsConfig())
    assert call.sampling.temperature == pytest.approx(temperature)


def test_events_become_messages() -> None:
    change = ConceptChange(concept_id=5, before=0.5, after=2.0, edits=(0, 2))
    audit = ImageAudit(
        before=((7, 1.0),),
        after=((5, 2.0),),
        edited=(change,),
        edited_total=70,
        coverage=ItemCoverage(framing="pad"),
    )
    event = StartEvent(
        engine="e",
        images=(audit,),
        prompt_tokens=30,
        context_tokens=512,
        phrases={"dog": ItemCoverage(tokens=3)},
    )
    start = convert.response(event, MODEL, 0.0).start
    assert (start.prompt_tokens, start.context_tokens) == (30, 512)
    assert [(entry.phrase, entry.coverage.tokens) for entry in start.phrases] == [("dog", 3)]
    assert (start.model.version, start.engine) == ("1", "e")
    [seen] = start.images
    assert [(concept.concept_id, concept.name) for concept in seen.after] == [(5, "dog")]
    assert [(entry.name, list(entry.edits)) for entry in seen.edited] == [("dog", [0, 2])]
    assert seen.edited_total == 70
    assert seen.coverage.framing == types_pb2.IMAGE_FRAMING_PAD
    delta = convert.response(DeltaEvent(text="a dog", tokens=2), MODEL, 0.0).delta
    assert (delta.text, delta.tokens) == ("a dog", 2)
    event = EndEvent(
        finish="length",
        prompt_tokens=30,
        image_tokens=17,
        completion_tokens=4,
        context_tokens=512,
        vision=StageTimes(decode_s=0.001),
        prepare_s=0.002,
        first_token_s=0.003,
    )
    end = convert.response(event, MODEL, 0.5).end
    assert (end.finish, end.stop) == (chat_pb2.CHAT_FINISH_LENGTH, "")
    stopped = convert.response(dataclasses.replace(event, finish="stop", stop="\n"), MODEL, 0).end
    assert (stopped.finish, stopped.stop) == (chat_pb2.CHAT_FINISH_STOP, "\n")
    usage = end.usage
    assert (usage.prompt_tokens, usage.image_tokens, usage.completion_tokens) == (30, 17, 4)
    assert usage.context_tokens == 512
    times = end.timings
    assert (times.decode_us, times.prepare_us, times.first_token_us) == (1_000, 2_000, 3_000)
    assert times.total_us == 500_000
