"""Hubs, and the figures of models on sets that none was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.foreign import hub_share, measure, opened, prediction_shares, table
from tests.support.paths import ICONS
from training.evaluation.evaluate import evaluate_split
from training.loading.pair_data import PairData


def test_shares_follow_the_nearest_label_and_ties_are_shared() -> None:
    text = np.eye(4, dtype=np.float32)
    image = np.array([[9, 1, 0, 0], [2, 1, 0, 0], [0, 3, 3, 0], [0, 0, 0, 0]], np.float32)
    shares = prediction_shares(image, text)
    # The third is between two labels, and the fourth, which is empty, between all four.
    assert shares.tolist() == [0.5625, 0.1875, 0.1875, 0.0625]


def test_hubs_are_the_most_predicted_labels() -> None:
    even = np.full(200, 1 / 200)
    assert hub_share(even) == pytest.approx(0.01)
    uneven = even.copy()
    uneven[[3, 8]] = (0.3, 0.2)
    assert hub_share(uneven) == pytest.approx(0.5)
    assert hub_share(np.array([0.7, 0.3])) == pytest.approx(0.7)


def test_figures_are_those_of_evaluate(tiny_bundle: Path) -> None:
    encoder, data = opened(tiny_bundle, 1), PairData(ICONS)
    found = measure(encoder, data)
    assert list(found) == data.splits
    for split, values in found.items():
        expected = evaluate_split(encoder, data, split)
        assert values["top1"]["percent"] == pytest.approx(expected.zero_shot.top1.percent, abs=0.01)
        assert values["top5"]["error"] == pytest.approx(expected.zero_shot.top5.error, abs=0.01)
        assert values["l0_image"] == pytest.approx(expected.image_sparsity.l0, abs=0.1)
        assert values["hub_share_if_right"] <= values["hub_share"] <= 100
    rows = table({"a/1": found, "a/2": found}).splitlines()[2:]
    assert len(rows) == 3 * len(found)
    assert "| change | +0.0 | +0.0 | +0 | +0.0 |" in rows[2]
    assert len(table({"a/1": found}).splitlines()) == 2 + len(found)
