"""What becomes of codes when images are sent as JPEGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.jpeg import QUALITIES, as_jpeg, compare, measure, staying
from tests.support.paths import ICONS
from training.evaluation.encoder import BundleEncoder
from training.loading.pair_data import PairData
from training.loading.samples import read_samples

WHITE = (255, 255, 255)


def test_equal_codes_stay_and_others_do_not() -> None:
    codes = np.random.default_rng(0).random((3, 40), np.float32)
    assert compare(codes, 2 * codes) == {
        "cosine_mean": 1.0,
        "cosine_p5": 1.0,
        "strongest_that_stay": 100.0,
    }
    moved = compare(codes, np.roll(codes, 7, axis=1))
    assert moved["cosine_mean"] < 0.95
    assert moved["strongest_that_stay"] < 80


def test_the_strongest_are_compared_among_those_that_are_active() -> None:
    few, other = np.zeros(40, np.float32), np.zeros(40, np.float32)
    few[[1, 2, 3, 4]] = 1.0
    other[[1, 2]] = 1.0
    empty = np.zeros(40, np.float32)
    assert (staying(few, other), staying(other, few)) == (0.5, 1.0)
    assert (staying(empty, empty), staying(empty, few), staying(few, empty)) == (1.0, 0.0, 0.0)
    many = np.arange(40, dtype=np.float32)
    assert staying(many, np.roll(many, 1)) == 0.9


def test_a_transparent_image_is_laid_on_its_ground_and_loses_something() -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (8, 8, 19, 19))
    best, worst = (np.asarray(as_jpeg(image, WHITE, q)).astype(int) for q in (95, 50))
    assert best.shape == (32, 32, 3)
    assert best[0, 0].min() > 240
    laid = np.full((32, 32, 3), 255)
    laid[8:19, 8:19] = (255, 0, 0)
    errors = [float(np.abs(jpeg - laid).mean()) for jpeg in (best, worst)]
    assert 0 < errors[0] < errors[1]


def test_every_quality_is_measured(tiny_bundle: Path) -> None:
    samples = read_samples(PairData(ICONS), ["train"])["train"][:12]
    result = measure(BundleEncoder(tiny_bundle, threads=1), samples)
    assert result["images"] == 12
    assert list(result["qualities"]) == [str(q) for q in QUALITIES]
    means = [figures["cosine_mean"] for figures in result["qualities"].values()]
    assert 0.5 < min(means) <= max(means) <= 1.0
    assert means[0] > means[-1]
    assert result["cosine_by_chance"] < means[0]
    assert result["met"] == (means[1] >= 0.98)
    assert all(f["cosine_p5"] <= f["cosine_mean"] for f in result["qualities"].values())


def test_the_goal_is_at_one_of_the_qualities() -> None:
    from benchmarks.jpeg import GOAL, GOAL_QUALITY

    assert GOAL_QUALITY in QUALITIES
    assert pytest.approx(0.98) == GOAL
