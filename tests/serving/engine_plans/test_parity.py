"""The figures of the parity gate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serving.engine_plans.parity import THRESHOLDS, agreement, compare, shortfalls
from serving.engines.base import EngineOutput

CONCEPTS = 64


def output(seed: int = 0, rows: int = 20) -> EngineOutput:
    rng = np.random.default_rng(seed)
    indices = np.stack([rng.permutation(CONCEPTS)[:24] for _ in range(rows)])
    return EngineOutput(
        indices=indices,
        values=rng.uniform(0.1, 1, (rows, 24)).astype(np.float32),
        active=np.full(rows, 24),
        norm=np.ones(rows, np.float32),
        dense=rng.normal(size=(rows, 8)).astype(np.float32),
    )


def test_equal_outputs_are_equal_in_any_order_of_slots() -> None:
    left = output()
    order = np.random.default_rng(1).permutation(24)
    right = dataclasses.replace(left, indices=left.indices[:, order], values=left.values[:, order])
    parity = compare(left, right, CONCEPTS)
    assert (parity.cosine, parity.jaccard, parity.top16) == (1, 1, 1)
    assert shortfalls("fp32", parity) == []


def test_a_lost_concept_shows_in_every_figure() -> None:
    left = output()
    values = left.values.copy()
    values[:, 0] = 0
    parity = compare(left, dataclasses.replace(left, values=values), CONCEPTS)
    assert parity.jaccard == pytest.approx(23 / 24, abs=1e-3)
    assert parity.cosine < 1
    assert parity.top16 is not None
    assert parity.top16 < 1
    assert len(shortfalls("fp32", parity)) == 3


def test_one_odd_item_of_many_refuses_nothing_and_is_shown() -> None:
    left = output(rows=40)
    values = left.values.copy()
    values[7] = 0
    values[7, 3] = 1
    parity = compare(left, dataclasses.replace(left, values=values), CONCEPTS)
    assert parity.cosine == 1
    assert parity.cosine_min < 0.5


def test_empty_codes_are_equal_to_each_other_alone() -> None:
    left = output(rows=4)
    empty = dataclasses.replace(left, values=np.zeros_like(left.values))
    assert compare(empty, empty, CONCEPTS).cosine == 1
    assert compare(left, empty, CONCEPTS).cosine == 0


@pytest.mark.parametrize("precision", THRESHOLDS)
def test_what_is_no_number_passes_nothing(precision: str) -> None:
    left = EngineOutput.of_dense(output().dense)
    right = EngineOutput.of_dense(np.full_like(left.dense, np.nan))
    assert shortfalls(precision, compare(left, right, 0)) != []  # type: ignore[arg-type]


def test_agreement_counts_nearest_texts_and_takes_ties() -> None:
    images, texts = output(0, 10), output(1, 5)
    assert agreement((images, texts), (images, texts), CONCEPTS) == 1
    turned = dataclasses.replace(texts, indices=texts.indices[::-1], values=texts.values[::-1])
    assert agreement((images, texts), (images, turned), CONCEPTS) < 0.7
    twice = dataclasses.replace(
        texts, indices=np.repeat(texts.indices[:1], 5, 0), values=np.repeat(texts.values[:1], 5, 0)
    )
    nudged = dataclasses.replace(
        twice, values=twice.values * np.float32([1, 1, 1, 1, 1.01])[:, None]
    )
    assert agreement((images, twice), (images, nudged), CONCEPTS) == 1
