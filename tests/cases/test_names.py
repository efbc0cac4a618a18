"""What the shipped model says of its names: by which images, and how far to trust them."""

from __future__ import annotations

import re

import pytest

from bundle.concepts import NamedConcept
from bundle.store import Bundle, default_bundle, open_bundle
from training.data.data_recipe import find_recipe, load_recipe

pytestmark = pytest.mark.kind("K5")


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(default_bundle())


@pytest.fixture(scope="module")
def concepts(shipped: Bundle) -> tuple[NamedConcept, ...]:
    return shipped.concepts.concepts


def test_no_image_of_a_held_out_style_is_evidence(concepts: tuple[NamedConcept, ...]) -> None:
    sets = load_recipe(find_recipe("demo")).sets
    held_out = {name for name, entry in sets.items() if entry.role != "train"}
    evidence = {e.source.partition("/")[0] for concept in concepts for e in concept.images}
    assert held_out >= {"noto", "fxemoji"}
    assert evidence
    assert evidence <= set(sets) - held_out


def test_every_name_has_a_confidence_and_a_concept_without_one_says_so(
    concepts: tuple[NamedConcept, ...],
) -> None:
    unnamed = [c for c in concepts if re.fullmatch(r"concept \d+ \(unnamed\)", c.name)]
    named = {c.id for c in concepts} - {c.id for c in unnamed}
    assert unnamed
    assert all(c.name == f"concept {c.id} (unnamed)" and not c.aliases for c in unnamed)
    lowest = min(concepts[k].name_confidence or 0.0 for k in named)
    assert lowest > max((c.name_confidence or 0.0 for c in unnamed), default=0.0)


def test_what_nothing_fires_has_no_modality(concepts: tuple[NamedConcept, ...]) -> None:
    dead = [c for c in concepts if c.modality is None]
    assert dead
    assert not any(c.active or c.images for c in dead)


def test_hubs_are_few_and_marked(concepts: tuple[NamedConcept, ...]) -> None:
    assert 0 < sum(c.hub for c in concepts) < len(concepts) / 20


def test_it_has_captions_and_offers_no_dense_vector(shipped: Bundle) -> None:
    assert shipped.captions is not None
    assert len(shipped.captions) > 1000
    assert shipped.manifest.architecture.dense is None


def test_the_card_is_of_this_version(shipped: Bundle) -> None:
    manifest = shipped.manifest
    card = shipped.file("CARD.md").read_text()
    assert card.startswith(f"# {manifest.name} {manifest.version}\n")
    assert "## Names of concepts" in card
