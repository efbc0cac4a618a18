"""Every text case through every door that embeds texts. Searches and edits: test_texts.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.in_process import local_server
from sparseclip import Client
from tests.cases.door_contract import Answers, OpenDoors
from tests.cases.doors import ANY_VALUE_DOORS, TEXT_DOORS, WITHOUT_COVERAGE, cosine
from tests.cases.texts import CASES, TextCase

REFERENCES = tuple(dict.fromkeys(case.same_as for case in CASES if case.same_as))
ON_THE_WIRE = tuple(case for case in CASES if case.on_the_wire)


@pytest.fixture(scope="module")
def doors(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoors]:
    with local_server(tiny_bundle, chat=False) as address, Client(address) as client:
        yield OpenDoors(
            address=address,
            client=client,
            folder=tmp_path_factory.mktemp("doors"),
            classifier=client.classifier(["dog"]),
            bundle=tiny_bundle,
        )


def cases_of(door: str) -> tuple[TextCase, ...]:
    """The cases that can be brought to a door."""
    return CASES if door in ANY_VALUE_DOORS else ON_THE_WIRE


@pytest.fixture(scope="module")
def answers(doors: OpenDoors) -> Callable[[str], Answers]:
    """All answers of a door, asked for once: those of its cases, then those of REFERENCES."""

    def ask(door: str) -> Answers:
        return TEXT_DOORS[door](doors, [*(case.text for case in cases_of(door)), *REFERENCES])

    return functools.cache(ask)


@pytest.mark.parametrize(
    ("door", "case"),
    [
        pytest.param(door, case, id=f"{case.name}-{door}", marks=pytest.mark.kind(case.kind))
        for door in TEXT_DOORS
        for case in cases_of(door)
    ],
)
def test_a_text_through_every_door(
    answers: Callable[[str], Answers], door: str, case: TextCase
) -> None:
    given = answers(door)
    assert len(given) == len(cases_of(door)) + len(REFERENCES)
    answer = given[cases_of(door).index(case)]
    assert answer is not None
    if case.refused is not None:
        assert answer.error.startswith("INVALID_ARGUMENT: text: ")
        if case.on_the_wire or not isinstance(case.text, str):
            assert answer.error.removeprefix("INVALID_ARGUMENT: text: ") == case.refused
        return
    assert not answer.error
    if case.same_as is not None:
        reference = given[len(cases_of(door)) + REFERENCES.index(case.same_as)]
        assert reference is not None
        assert answer.values.keys() == reference.values.keys()
        assert cosine(answer.values, reference.values) == pytest.approx(1, abs=1e-5)
    if door in WITHOUT_COVERAGE:
        return
    assert answer.coverage is not None
    if case.tokens is not None:
        assert answer.coverage.tokens == case.tokens
    assert answer.coverage.truncated == case.truncated
    if case.unknown_words is not None:
        assert answer.coverage.unknown_words == case.unknown_words
