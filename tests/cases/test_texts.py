"""Every text case through the tokenizers of both sides, the search for concepts, and an edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from bundle.store import open_bundle
from bundle.text import TextError
from serving.in_process import local_server
from sparseclip import CallError, ChatSampling, Client, Coverage, Edit, Steering
from tests.cases.texts import CASES, PLAIN, TextCase
from tests.serving.support.running_server import PNG
from tests.support.tiny_model import CONTEXT, VOCABULARY
from training.model.tokenizer import CaptionTokenizer

REMOTE = ("search", "edit")
DOORS = ("serving", "training", *REMOTE)

PAIRS = [
    pytest.param(door, case, id=f"{door}-{case.name}", marks=pytest.mark.kind(case.kind))
    for door in DOORS
    for case in CASES
    if case.on_the_wire or door not in REMOTE
]


class RefusedError(Exception):
    """A text that is refused, with the reason."""


class ReadText(NamedTuple):
    """What a door made of a text."""

    code: object
    """The same for two texts that have the same code."""
    coverage: Coverage


Door = Callable[[Any], ReadText]


@pytest.fixture(scope="module")
def client(chat_bundle: Path) -> Iterator[Client]:
    with local_server(chat_bundle, chat=True) as address, Client(address) as opened:
        yield opened


@pytest.fixture(scope="module", params=DOORS)
def door(request: pytest.FixtureRequest, chat_bundle: Path, client: Client) -> Door:
    if request.param in REMOTE:
        call = {"search": _searched, "edit": _edited}[request.param]
        return lambda text: call(client, text)
    bundle = open_bundle(chat_bundle)
    training = CaptionTokenizer.of_size(VOCABULARY, CONTEXT)
    tokenizer = bundle.tokenizer if request.param == "serving" else training

    def read(text: object) -> ReadText:
        try:
            read = tokenizer.tokenize(text)
        except TextError as error:
            raise RefusedError(error.problem) from None
        unknown = bundle.known_words.unknown(read.read)
        coverage = Coverage(tokens=read.tokens, truncated=read.truncated, unknown_words=unknown)
        return ReadText(read.ids.tolist(), coverage)

    return read


def _searched(client: Client, text: str) -> ReadText:
    try:
        matches = client.search_concepts(text, limit=100)
    except CallError as error:
        raise RefusedError(_reason(error, "query")) from None
    found = [(m.concept.concept_id, m.activation, m.name_match) for m in matches]
    return ReadText(found, matches.coverage)


def _edited(client: Client, text: str) -> ReadText:
    plan = Steering(edits=[Edit(op="SET", phrase=text, value=2.0)])
    short = ChatSampling(max_tokens=1)
    try:
        with closing(client.chat("What?", [PNG], steering=plan, sampling=short)) as events:
            start: Any = next(events)
    except CallError as error:
        raise RefusedError(
            _reason(error, "messages[0].images[0].steering.edits[0].phrase")
        ) from None
    edited = [(entry.concept_id, entry.after) for entry in start.images[0].edited]
    return ReadText(edited, start.phrases[0].coverage)


def _reason(error: CallError, field: str) -> str:
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field]
    return error.message.removeprefix(f"{field}: ")


@pytest.mark.parametrize(("door", "case"), PAIRS, indirect=["door"])
def test_a_text_through_every_door(door: Door, case: TextCase) -> None:
    if case.refused is not None:
        with pytest.raises(RefusedError) as caught:
            door(case.text)
        assert str(caught.value) == case.refused
        return
    read = door(case.text)
    if case.same_as is not None:
        assert read.code == door(case.same_as).code
    if case.tokens is not None:
        assert read.coverage.tokens == case.tokens
    assert read.coverage.truncated == case.truncated
    if case.unknown_words is not None:
        assert read.coverage.unknown_words == case.unknown_words


@pytest.mark.kind("K7")
@pytest.mark.parametrize("text", PLAIN)
def test_a_special_token_s_name_is_plain_text(door: Door, text: str) -> None:
    before, mark, _ = text.partition(" <")
    assert door(text).code != door(before).code
    assert door(text).code != door(before + mark).code


@pytest.mark.kind("K7")
def test_other_texts_have_other_codes(door: Door) -> None:
    assert door("dog").code != door("cat").code
