"""The numbers on the page are those that counting one by one gives."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bundle.store import open_bundle
from serving.export import export_reader as reader
from serving.report import statistics
from serving.report.top_rows import TopRows
from tests.serving.report.conftest import BROKEN, COUNT, ROWS, Reporter, rows_of
from tests.support.tiny_model import CONCEPTS


@pytest.fixture(params=[7, 8192])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches smaller than a shard, and larger."""
    monkeypatch.setattr(reader, "BATCH_ROWS", request.param)


@pytest.mark.usefixtures("batch")
def test_active_concepts_and_frequencies(
    exported: Path, tiny_bundle: Path, report: Reporter
) -> None:
    data = report(exported, "--bundle", tiny_bundle).data
    rows = rows_of(exported / "data")
    active = [row["active"] for row in rows]
    assert data["active"]["mean"] == pytest.approx(np.mean(active))
    for name, percent in (("p5", 5), ("median", 50), ("p95", 95)):
        expected = np.percentile(active, percent, method="inverted_cdf")
        assert data["active"][name] == expected
    assert data["active"]["rows"] == np.bincount(active).tolist()
    assert data["active"]["cut"] == sum(row["active"] > len(row["indices"]) for row in rows)

    values: dict[int, list[float]] = {}
    for row in rows:
        for concept, value in zip(row["indices"], row["values"], strict=True):
            values.setdefault(concept, []).append(value)
    table = data["concepts"]
    assert (table["total"], table["dead"]) == (CONCEPTS, CONCEPTS - len(values))
    assert table["id"] == sorted(values, key=lambda concept: (-len(values[concept]), concept))
    vocabulary = open_bundle(tiny_bundle).concepts
    assert table["name"] == [vocabulary[concept].name for concept in table["id"]]
    assert table["rows"] == [len(values[concept]) for concept in table["id"]]
    means = [np.mean(values[concept]) for concept in table["id"]]
    assert table["mean"] == pytest.approx(means, rel=1e-4)
    assert table["max"] == pytest.approx([max(values[c]) for c in table["id"]], rel=1e-4)


@pytest.mark.usefixtures("batch")
def test_pairs(exported: Path, report: Reporter) -> None:
    data = report(exported).data
    codes = [set(row["indices"]) for row in rows_of(exported / "data")]
    alone = Counter(itertools.chain(*codes))
    for (i, one), (j, other) in itertools.product(enumerate(data["map"]["concepts"]), repeat=2):
        assert data["map"]["rows"][i][j] == sum({one, other} <= code for code in codes)
    compared = sorted(alone, key=lambda c: (alone[c] > len(codes) / 2, -alone[c], c))
    assert set(data["map"]["concepts"]) == set(compared[:40])
    assert data["compared"] == min(256, len(compared))

    lifts = []
    for one, other in itertools.combinations(compared[:256], 2):
        both = sum({one, other} <= code for code in codes)
        if both >= data["support"]:
            lifts.append(both * len(codes) / (alone[one] * alone[other]))
    assert lifts
    best = sorted(lifts, reverse=True)[:30]
    assert [pair["lift"] for pair in data["pairs"]] == pytest.approx(best, rel=1e-4)
    for pair in data["pairs"]:
        both = sum({pair["one"], pair["other"]} <= code for code in codes)
        either = alone[pair["one"]] + alone[pair["other"]] - both
        assert (pair["rows"], pair["jaccard"]) == (both, pytest.approx(both / either, rel=1e-4))


@pytest.mark.usefixtures("batch")
def test_examples_are_the_strongest_rows(exported: Path, report: Reporter) -> None:
    data = report(exported, "--concepts", 20, "--top", 5).data
    rows = rows_of(exported / "data")
    codes = [dict(zip(row["indices"], row["values"], strict=True)) for row in rows]
    assert len(data["shown"]) == 20
    for shown in data["shown"]:
        firing = [n for n, code in enumerate(codes) if shown["concept"] in code]
        firing.sort(key=lambda n: (-codes[n][shown["concept"]], n))
        assert shown["examples"] == firing[:5]
        values = [codes[number][shown["concept"]] for number in firing[:5]]
        assert shown["values"] == pytest.approx(values, rel=1e-4)
    for number, example in data["examples"].items():
        row = rows[int(number)]
        assert (example["id"], example["source"]) == (row["id"], row["source"])


def test_the_summary_and_the_quarantine(exported: Path, source: Path, report: Reporter) -> None:
    page = report(exported)
    summary = page.data["summary"]
    files = [*(exported / "data").iterdir(), *(exported / "quarantine").iterdir()]
    assert summary["whole"]
    assert summary["model"] == "tiny/1"
    assert summary["entries"] == COUNT
    assert summary["rows"] == COUNT - len(BROKEN)
    assert summary["quarantined"] == len(BROKEN)
    assert summary["bytes"] == sum(path.stat().st_size for path in files)
    assert summary["shards"] == summary["planned"] == math.ceil(COUNT / ROWS)
    [reason] = page.data["quarantine"]
    assert reason["count"] == len(BROKEN)
    assert set(reason["ids"]) == {f"{number % 3}/{number:04d}.png" for number in BROKEN}
    assert reason["reason"] in page.text


def test_reasons_that_are_not_listed_are_counted(
    exported: Path, report: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MAX_REASONS", 0)
    [others] = report(exported).data["quarantine"]
    assert others == {"reason": "other reasons", "count": len(BROKEN), "ids": []}


def test_equal_values_keep_the_earlier_row() -> None:
    random = np.random.default_rng(0)
    kept, everything = TopRows(3), list[tuple[int, float, int]]()
    for start in range(0, 200, 20):
        non_zeros = [
            (int(concept), float(random.integers(1, 4)), row)
            for row in range(start, start + 20)
            for concept in random.choice(5 + start // 20, 2, replace=False)
        ]
        concepts, values, rows = map(np.array, zip(*non_zeros, strict=True))
        kept.add(concepts.astype(np.uint32), values.astype(np.float32), rows)
        everything += non_zeros
    for concept in range(len(kept.values)):
        best = sorted((-value, row) for c, value, row in everything if c == concept)[:3]
        count = int((kept.values[concept] > 0).sum())
        assert count == len(best)
        assert kept.rows[concept, :count].tolist() == [row for _, row in best]
        assert kept.values[concept, :count].tolist() == [-value for value, _ in best]


def test_without_the_bundle_names_come_from_the_rows(exported: Path, report: Reporter) -> None:
    page = report(exported)
    table = page.data["concepts"]
    assert (table["total"], table["dead"]) == (None, None)
    names = {c["id"]: c["name"] for row in rows_of(exported / "data") for c in row["concepts"]}
    assert table["name"] == [names.get(c, f"concept {c}") for c in table["id"]]
    assert "nobody knows how many never do" in page.text
