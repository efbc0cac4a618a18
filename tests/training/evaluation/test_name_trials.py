"""Confidence of names, hubs and modality, on images whose concepts are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bundle.concepts import NamedConcept
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.metrics import Floats
from training.evaluation.name_trials import is_borne_out, parts_of, words_of

THINGS, WRONG, DEAD, HUB = 60, 30, 90, 91
"""Concepts 0 to 59 stand for a thing each, 60 to 89 fire at random, 90 never, 91 on everything."""

CONCEPTS = 96
IMAGES = 1200
NAMES = [f"thing{k}" for k in range(THINGS)]


def image_codes(seed: int = 7) -> tuple[Floats, list[str]]:
    """Codes of images of one thing each, and the things."""
    noise = np.random.default_rng(seed)
    thing = noise.integers(0, THINGS, IMAGES)
    codes = np.zeros((IMAGES, CONCEPTS), dtype=np.float32)
    codes[np.arange(IMAGES), thing] = 2 + noise.random(IMAGES)
    for k in range(THINGS, THINGS + WRONG):
        codes[noise.choice(IMAGES, 30, replace=False), k] = 1 + noise.random(30)
    codes[:, HUB] = 1.5
    return codes, [NAMES[t] for t in thing]


@pytest.fixture(scope="module")
def named() -> list[NamedConcept]:
    codes, things = image_codes()
    text = np.zeros((THINGS, CONCEPTS), dtype=np.float32)
    text[:, :THINGS] = np.eye(THINGS) * 2
    for k in range(WRONG):  # a word that fires a concept whose images show anything
        text[k, THINGS + k] = 0.5
    text[:, HUB] = 0.4
    images = ImageCodes(
        codes=codes,
        sources=[f"icons/{i}" for i in range(IMAGES)],
        tags=[{thing} for thing in things],
        words=[words_of({"caption": thing, "keywords": []}) for thing in things],
    )
    return name_concepts(NAMES, text, images)


def test_names_that_images_bear_out_are_trusted(named: list[NamedConcept]) -> None:
    assert [c.name for c in named[:THINGS]] == NAMES
    assert min(c.name_confidence or 0 for c in named[:THINGS]) > 0.9


def test_names_that_images_do_not_bear_out_are_not_shown(named: list[NamedConcept]) -> None:
    wrong = [c for c in named[THINGS : THINGS + WRONG] if not c.is_named]
    assert len(wrong) >= WRONG - 1  # of 30 images drawn at random, five may show one thing
    for concept in wrong:
        assert concept.name == f"concept {concept.id} (unnamed)"
        assert concept.aliases == ()
        assert concept.words  # the evidence stays
        assert concept.name_confidence is not None
        assert concept.name_confidence < 0.4


def test_what_fires_on_everything_is_a_hub(named: list[NamedConcept]) -> None:
    assert [c.id for c in named if c.hub] == [HUB]


def test_a_concept_that_nothing_fires_has_no_modality(named: list[NamedConcept]) -> None:
    dead = named[DEAD]
    assert (dead.active, dead.frequency, dead.modality, dead.images) == (False, 0.0, None, ())
    assert all(c.modality is not None for c in named[:THINGS])


def test_words_that_no_image_is_tagged_with_do_not_count_as_text() -> None:
    codes, things = image_codes()
    text = np.zeros((2, CONCEPTS), dtype=np.float32)
    text[0, 0] = 2.0
    text[1] = 50.0  # a word of the dictionary that the tower never learned
    images = ImageCodes(
        codes=codes,
        sources=things,
        tags=[{thing} for thing in things],
        words=[{thing} for thing in things],
    )
    named = name_concepts([NAMES[0], "unseen"], text, images)
    assert named[DEAD].modality is None
    assert named[1].modality == 1  # images alone
    swapped = dataclasses.replace(images, tags=[{"unseen"} for _ in things])
    assert name_concepts([NAMES[0], "unseen"], text, swapped)[1].modality < 1


def test_a_name_is_borne_out_by_all_of_its_words() -> None:
    words = words_of({"caption": "Dog face", "keywords": ["pet's paw"]})
    assert words == {"dog", "face", "pet", "s", "paw"}
    assert is_borne_out(parts_of("dog"), words)
    assert is_borne_out(parts_of("face dog"), words)
    assert not is_borne_out(parts_of("cat face"), words)
    assert not is_borne_out(parts_of("!"), words)
