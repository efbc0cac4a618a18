"""ChatService: answers, what they are based on, edits, and when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bundle.store import open_bundle
from sparseclip.v1 import chat_pb2
from tests.serving.support.chat_requests import (
    ABLATE,
    ADD,
    CHAT,
    SCALE,
    SET,
    Edit,
    chat_serves,
    image,
    question,
    replies,
    stepping,
    text_of,
    user,
    without_times,
)
from tests.serving.support.expected_outputs import direct, pixels_of
from tests.serving.support.running_server import (
    PNG,
    Running,
    encoded_image,
    serving,
    unharmed,
)
from tests.support.chat_bundles import WORDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOG = Edit(phrase="dog", op=SET, value=4.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatty(chat_bundle: Path) -> AsyncIterator[Running]:
    async with serving(chat_bundle) as running:
        yield running


async def test_an_answer_comes_in_events(chatty: Running) -> None:
    async with unharmed(chatty):
        events = await replies(chatty, question())
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["start", *["delta"] * (len(events) - 2), "end"]
    start, end = events[0].start, events[-1].end
    assert (start.model.name, start.model.version) == ("tiny", "2")
    assert start.engine.startswith("transformers ")
    assert text_of(events)
    tokens = sum(event.delta.tokens for event in events)
    assert end.usage.completion_tokens == tokens <= 16
    assert end.finish == (
        chat_pb2.CHAT_FINISH_LENGTH if tokens == 16 else chat_pb2.CHAT_FINISH_STOP
    )
    assert end.usage.image_tokens == 17
    assert end.usage.prompt_tokens > 16
    assert start.prompt_tokens == end.usage.prompt_tokens
    assert start.context_tokens == end.usage.context_tokens == context(chatty)
    assert end.stop == ""
    assert 0 < end.timings.first_token_us < end.timings.total_us
    assert without_times(await replies(chatty, question())) == without_times(events)


async def test_the_first_event_says_what_was_edited(chatty: Running, chat_bundle: Path) -> None:
    edits = (
        Edit(phrase="dog", op=SET),
        Edit(concept_id=200, op=SET, value=9.0, patches=[0, 1]),
        Edit(concept_name="star", op=ADD, value=0.5),
        Edit(phrase="cat", op=SCALE, value=0.5, top=2),
    )
    output = direct(chat_bundle, "patches", pixels_of(chat_bundle, PNG))
    dense = np.zeros((16, 256))
    np.put_along_axis(dense, output["patch_indices"][0], output["patch_values"][0], axis=1)
    events = await replies(chatty, question(*edits))
    [concepts] = events[0].start.images
    means = dense.mean(0)
    strongest = np.argsort(-means, kind="stable")[:10]
    assert [entry.concept_id for entry in concepts.before] == strongest.tolist()
    np.testing.assert_allclose([e.value for e in concepts.before], means[strongest], rtol=1e-5)
    changed = {entry.concept_id: entry for entry in concepts.edited}
    assert concepts.edited_total == len(changed)
    own = {200, 9}  # what was named itself, and is edited as that says
    for entry in concepts.edited:
        assert entry.before == pytest.approx(means[entry.concept_id], rel=1e-5, abs=1e-7)
        if list(entry.edits) == [0]:
            assert 0 < entry.after <= WORDS.strength * (1 + 1e-6)
        if list(entry.edits) == [3]:
            assert entry.after == pytest.approx(entry.before / 2)
    text = direct(chat_bundle, "text", open_bundle(chat_bundle).tokenizer.encode(["dog"]))
    shares = text["values"][0][: WORDS.top] / text["values"][0][0]
    for concept, share in zip(text["indices"][0].tolist(), shares.tolist(), strict=False):
        if list(changed[concept].edits) == [0]:
            assert changed[concept].after == pytest.approx(WORDS.strength * share, rel=1e-5)
    for index, count in ((0, WORDS.top), (3, 2)):
        named = [entry.concept_id for entry in concepts.edited if index in entry.edits]
        assert len(named) == count
    assert own <= set(changed)
    assert changed[200].after == pytest.approx(9 * 2 / 16 + dense[2:, 200].sum() / 16)
    assert changed[9].after == pytest.approx(means[9] + 0.5)
    sizes = [abs(entry.after - entry.before) for entry in concepts.edited]
    assert sizes == sorted(sizes, reverse=True)
    for scored in concepts.after:  # nothing but the edited concepts has changed
        edited = changed.get(scored.concept_id)
        expected = means[scored.concept_id] if edited is None else edited.after
        assert scored.value == pytest.approx(expected, rel=1e-5)


async def test_f33_an_empty_plan_is_no_plan(chatty: Running) -> None:
    plain = chat_pb2.ChatRequest(
        messages=[user("What is this?", chat_pb2.ChatImage(data=PNG))],
        sampling=chat_pb2.ChatSampling(max_tokens=16),
    )
    expected = without_times(await replies(chatty, plain))
    assert without_times(await replies(chatty, question())) == expected
    none = chat_pb2.ChatRequest(
        messages=[user("What is this?", image(DOG, strength=0.0))], sampling=plain.sampling
    )
    unchanged = without_times(await replies(chatty, none))
    assert unchanged[1:] == expected[1:]
    assert unchanged[0].start.images[0].after == expected[0].start.images[0].after
    assert text_of(await replies(chatty, question(DOG))) != text_of(expected)


async def test_f33_neighbours_in_a_batch_are_untouched(chatty: Running) -> None:
    requests = [
        question(DOG),
        question(),
        question(Edit(phrase="cat", op=ABLATE), Edit(concept_id=7, op=SET, value=20.0)),
        question(Edit(phrase="dog", op=SCALE, value=0.0), data=encoded_image(5)),
        question(data=encoded_image(5), text="no, it is a dog"),
    ]
    alone = [without_times(await replies(chatty, request)) for request in requests]
    assert len({text_of(events) for events in alone}) > 2
    async with unharmed(chatty):
        with stepping(chatty) as steps:
            calls = [asyncio.ensure_future(replies(chatty, request)) for request in requests]
            steps.free.release(100_000)
            together = [without_times(events) for events in await asyncio.gather(*calls)]
    assert max(steps.batches) > 1
    assert together == alone


async def test_an_image_is_encoded_once(chatty: Running) -> None:
    data = encoded_image(77)
    first = await replies(chatty, question(data=data))
    runs = len(chatty.engine.seen)
    await replies(chatty, question(Edit(phrase="a house", op=SET, value=1.0), data=data))
    assert len(chatty.engine.seen) == runs + 1  # the phrase, which no one has named before
    again = await replies(chatty, question(Edit(phrase="a house", op=SET, value=5.0), data=data))
    assert len(chatty.engine.seen) == runs + 1
    assert first[-1].end.timings.inference_us > 0
    assert again[-1].end.timings.inference_us == again[-1].end.timings.decode_us == 0
    assert again[0].start.images[0].before == first[0].start.images[0].before
    assert again[0].start.images[0].after != first[0].start.images[0].after


async def test_a_conversation_of_many_turns_and_images(chatty: Running) -> None:
    request = chat_pb2.ChatRequest(
        messages=[
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_SYSTEM, text="Be brief."),
            user("What is this?", image(DOG), image(data=encoded_image(5))),
            chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, text="a dog"),
            user("What is this?", image()),
        ],
        sampling=chat_pb2.ChatSampling(max_tokens=4),
    )
    events = await replies(chatty, request)
    first, second, third = events[0].start.images
    assert events[-1].end.usage.image_tokens == 51
    assert (first.edited_total, second.edited_total) == (WORDS.top, 0)
    assert first.before == third.before == third.after != first.after
    assert second.before != first.before


async def test_chance_repeats_with_its_seed(chatty: Running) -> None:
    async def drawn(seed: int) -> str:
        return text_of(await replies(chatty, question(temperature=1.0, top_p=0.95, seed=seed)))

    assert await drawn(1) == await drawn(1)
    assert len({await drawn(seed) for seed in range(5)}) > 1


def context(running: Running) -> int:
    """What the language model's own configuration says."""
    engine: Any = running.server.registry.models[0].chat._model.engine
    return int(engine._model.config.max_position_embeddings)


async def test_an_answer_ends_before_a_stop_sequence(chatty: Running) -> None:
    whole = await replies(chatty, question())
    text = text_of(whole)
    stop = text[5:8]
    async with unharmed(chatty):
        events = await replies(chatty, question(stop=["no such text", stop]))
    end = events[-1].end
    assert text_of(events) == text[: text.index(stop)]
    assert (end.finish, end.stop) == (chat_pb2.CHAT_FINISH_STOP, stop)
    tokens = sum(event.delta.tokens for event in events)
    assert 0 < end.usage.completion_tokens == tokens < whole[-1].end.usage.completion_tokens
    # What could have become a stop sequence is sent at the end.
    late = await replies(chatty, question(stop=[text[-3:] + "\x00"]))
    assert text_of(late) == text
    assert (late[-1].end.stop, late[-1].end.usage) == ("", whole[-1].end.usage)


async def test_penalties_change_the_answer(chatty: Running) -> None:
    plain = text_of(await replies(chatty, question()))
    for penalty in (
        {"presence_penalty": -2.0},
        {"frequency_penalty": -2.0},
        {"repetition_penalty": 0.01},
    ):
        assert text_of(await replies(chatty, question(**penalty))) != plain
    assert text_of(await replies(chatty, question(repetition_penalty=1.0))) == plain


async def test_what_is_measured(chatty: Running) -> None:
    def value(name: str, **labels: str) -> float:
        return chatty.server.metrics.registry.get_sample_value(name, labels) or 0.0

    names = ("sparseclip_chat_tokens_total", "sparseclip_chat_first_token_seconds_count")
    before = [value(name) for name in names]
    kept = value("sparseclip_chat_images_total", codes="kept")
    events = await replies(chatty, question())
    tokens = events[-1].end.usage.completion_tokens
    assert [value(name) for name in names] == [before[0] + tokens, before[1] + 1]
    assert value("sparseclip_chat_images_total", codes="kept") == kept + 1
    assert value("sparseclip_calls_total", code="OK", method=CHAT) > 0


async def test_health_of_its_own(chatty: Running, shared: Running) -> None:
    assert await chat_serves(chatty)
    assert not await chat_serves(shared)
    assert await shared.serving()


async def test_reflection_names_it(chat_bundle: Path) -> None:
    async with serving(chat_bundle, reflection=True) as running:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)
        names = reflection_pb2.ServerReflectionRequest(list_services="")
        file = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="sparseclip.v1.ChatService"
        )
        method = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="sparseclip.v1.ChatService.Chat"
        )
        unknown = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="sparseclip.v1.ChatService.Hum"
        )
        requests = iter([names, file, method, unknown])
        listed, described, of_method, of_none = [
            r async for r in stub.ServerReflectionInfo(requests)
        ]
        services = [entry.name for entry in listed.list_services_response.service]
        assert "sparseclip.v1.ChatService" in services
        assert described.file_descriptor_response.file_descriptor_proto
        # ghz and others ask for the file of the method that they call.
        assert of_method.file_descriptor_response == described.file_descriptor_response
        assert of_none.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
