"""How matches are ranked, what a map holds, and how it is drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bundle.concepts import ConceptVocabulary
from bundle.manifest import Preprocessing
from serving.engines.outputs import OutputRow, Patches
from serving.models.explain import ExplainedImage, ranked
from serving.models.map_overlay import MAX_OVERLAY_BYTES, render_overlay
from tests.support.tiny_model import tiny_concepts

VOCABULARY = ConceptVocabulary(tuple(tiny_concepts()))


def preprocessing() -> Preprocessing:
    return Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_names_come_first_then_activations_then_similar_names() -> None:
    dog, cat = VOCABULARY.by_name("dog"), VOCABULARY.by_name("cat")
    assert dog is not None
    assert cat is not None
    activations = {200: 1.0, dog.id: 0.5, 201: 2.0}
    matches = ranked("  DOGS ", activations, [dog, cat], VOCABULARY)
    assert [match.concept.id for match in matches] == [dog.id, 201, 200, cat.id]
    assert [match.name_match for match in matches] == [True, False, False, False]
    assert [match.activation for match in matches] == [0.5, 2.0, 1.0, 0.0]


def explained(complete: bool = True) -> ExplainedImage:
    indices = np.array([[3, 7], [7, 3], [7, 9], [9, 3]])
    values = np.array([[1, 2], [4, 0], [0, 1], [0, 0]], dtype=np.float32)
    row = OutputRow(
        indices=np.array([3, 7], dtype=np.uint32),
        values=np.array([0.25, 1.5], dtype=np.float32),
        active=2,
        norm=1.0,
        dense=np.zeros(4, dtype=np.float32),
        patches=Patches(indices=indices, values=values, complete=complete),
    )
    pixels = np.zeros((3, 32, 32), dtype=np.float32)
    return ExplainedImage(pixels=pixels, row=row, grid=(2, 2), preprocessing=preprocessing())


def test_a_map_holds_the_activation_on_every_patch() -> None:
    third, seventh, absent = explained().maps([3, 7, 100], overlay=False)
    assert (third.value, third.values.tolist()) == (0.25, [1, 0, 0, 0])
    assert (seventh.value, seventh.values.tolist()) == (1.5, [2, 4, 0, 0])
    assert (absent.value, absent.values.tolist()) == (0.0, [0, 0, 0, 0])
    assert seventh.overlay_png == b""
    assert not explained(complete=False).complete


def test_a_row_without_patches_has_no_maps() -> None:
    image = explained()
    object.__setattr__(image.row, "patches", None)
    with pytest.raises(ValueError, match="without patches"):
        image.maps([3], overlay=False)


def drawn(values: list[float]) -> np.ndarray:
    """The overlay of a map of 2 x 2 patches over a grey image, as RGB (S, S, 3)."""
    pixels = np.zeros((3, 32, 32), dtype=np.float32)
    png = render_overlay(pixels, np.array(values, dtype=np.float32), (2, 2), preprocessing())
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_strongest_patch_is_the_brightest() -> None:
    overlay = drawn([0.0, 0.0, 0.0, 5.0])
    assert overlay.shape == (336, 336, 3)
    corners = [overlay[y, x].sum() for y, x in ((20, 20), (20, 315), (315, 20), (315, 315))]
    assert max(corners) == corners[3]
    assert corners[3] > 1.5 * max(corners[:3])
    np.testing.assert_array_equal(overlay, drawn([0.0, 0.0, 0.0, 0.5]))  # relative to the peak


def test_a_map_of_zeros_leaves_an_even_image() -> None:
    assert drawn([0.0] * 4).reshape(-1, 3).std(axis=0).max() == 0


@pytest.mark.parametrize("side", [32, 448])
def test_the_overlays_of_a_reply_fit_the_message_of_a_stock_client(side: int) -> None:
    noise = np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)
    values = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    share = MAX_OVERLAY_BYTES // 32
    whole = render_overlay(noise, values, (2, 2), preprocessing())
    bounded = render_overlay(noise, values, (2, 2), preprocessing(), share)
    assert len(whole) > share >= len(bounded)
    with Image.open(io.BytesIO(bounded)) as small, Image.open(io.BytesIO(whole)) as large:
        assert small.width >= 0.5 * large.width
        difference = np.asarray(small.convert("RGB").resize((8, 8)), dtype=float) - np.asarray(
            large.resize((8, 8)), dtype=float
        )
    assert np.abs(difference).mean() < 12
