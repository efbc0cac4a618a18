"""Images and texts through a dense model by every door: the same vector, or advice in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle.manifest import NO_CONCEPTS
from serving.in_process import local_server
from sparseclip import Client
from tests.cases.door_contract import OpenDoors
from tests.cases.doors import IMAGE_DOORS, LABELS, TEXT_DOORS, WITHOUT_COVERAGE, cosine
from tests.serving.support.running_server import encoded_image
from tests.support.tiny_dense import DENSE_DIM

IMAGES = (encoded_image(0), encoded_image(1, (32, 32)), encoded_image(2, (20, 70)))
TEXTS = ("a red circle", "star " * 40, "d\u00adog")

CONCEPT_DOORS = ("explain", "chat")
"""They are about concepts, of which a dense model has none."""
SCORES = "classify"
"""It gives scores of labels, and no vector."""

pytestmark = pytest.mark.kind("K7")


@pytest.fixture(scope="module")
def doors(dense_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoors]:
    with local_server(dense_bundle, chat=False) as address, Client(address) as client:
        yield OpenDoors(
            address=address,
            client=client,
            folder=tmp_path_factory.mktemp("doors"),
            classifier=client.classifier(LABELS),
            bundle=dense_bundle,
        )


@pytest.mark.parametrize("door", IMAGE_DOORS)
def test_an_image_has_one_vector_by_every_door(doors: OpenDoors, door: str) -> None:
    answers = IMAGE_DOORS[door](doors, IMAGES)
    expected = doors.client.embed(IMAGES)
    for answer, embedding in zip(answers, expected, strict=True):
        assert answer is not None
        assert embedding.dense is not None
        if door in CONCEPT_DOORS:
            assert answer.error == f"FAILED_PRECONDITION: {NO_CONCEPTS}"
            continue
        assert answer.error == ""
        if door == SCORES:
            assert answer.values == pytest.approx(dict(doors.classifier.score(embedding).scores))
            continue
        vector = dict(enumerate(embedding.dense.tolist()))
        assert len(answer.values) == DENSE_DIM
        assert cosine(vector, answer.values) > 0.99999


@pytest.mark.parametrize("door", TEXT_DOORS)
def test_a_text_has_one_vector_by_every_door(doors: OpenDoors, door: str) -> None:
    answers = TEXT_DOORS[door](doors, TEXTS)
    expected = doors.client.embed([], TEXTS).to_dense()
    for answer, unit in zip(answers, expected, strict=True):
        assert answer is not None
        assert answer.error == ""
        assert len(answer.values) == DENSE_DIM
        assert cosine(dict(enumerate(unit.tolist())), answer.values) > 0.99999
        if door in WITHOUT_COVERAGE:
            continue
        assert answer.coverage is not None
        assert answer.coverage.unknown_words == ()
    assert not np.allclose(expected[0], expected[1])
