"""The right answers of searches in images of the demo data, for benchmarks.retrieval.

B rows, C concepts, D width of what the image tower's last projection reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bundle.onnx_graph import OnnxGraph
from bundle.store import open_bundle
from serving.index.databases.base import Code, IndexRow, Vector
from serving.index.export_rows import ExportRows
from serving.index.query import QueryTerm, make_query
from sparseclip import Client
from training.data.shards import Sample

TOP = 10
TOLERANCE = 1e-5
"""Cosines that differ by less count as equal: the databases add up in float32, in another order."""

ROWS_PER_CALL = 500
"""Rows in memory at a time, and rows of one call of a database."""


def code_of(vector: Vector) -> Code:
    """The code that is compared; the export of this benchmark holds codes."""
    assert isinstance(vector, Code)
    return vector


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """An export in memory, searched by brute force."""

    rows: list[IndexRow]
    codes: csr_array
    """(B, C), unit rows."""
    dense: NDArray[np.float32]
    """(B, D), unit rows: what the codes are made from. Only images can be compared by it."""

    def scores(self, query: Code) -> NDArray[np.float32]:
        """The cosine of every row with a query (B,)."""
        row = np.zeros(self.codes.shape[1], np.float32)
        row[query.indices] = query.values
        return np.asarray(self.codes @ row)

    def recall(self, query: Code, hits: Sequence[str], numbers: Mapping[str, int]) -> float:
        """The share of the TOP rows that are among the hits. Rows of equal cosine stand in for each
        other. `numbers` has the number of each row by its id."""
        scores = self.scores(query)
        best = np.sort(scores[scores > 0])[::-1][:TOP]
        if not len(best):
            return float(not hits)
        correct = sum(bool(scores[numbers[row]] >= best[-1] - TOLERANCE) for row in set(hits))
        return min(1.0, correct / len(best))


def read_truth(export: Path, path: Path, samples: Mapping[str, Sample]) -> GroundTruth:
    """The codes of an export, and what the bundle at `path` makes them from."""
    rows = [row for batch in ExportRows.open(str(export)).batches(ROWS_PER_CALL) for row in batch]
    bundle = open_bundle(path)
    width = bundle.manifest.architecture.concepts
    graph = OnnxGraph(bundle.file("image.onnx"), "image")
    dense = np.concatenate(
        [
            graph.run(bundle.preprocessor(samples[row_key(row)].image())[None], ("dense",))["dense"]
            for row in rows
        ]
    )
    held = [code_of(row.vector) for row in rows]
    offsets = np.cumsum([0, *(len(code.indices) for code in held)])
    codes = csr_array(
        (
            np.concatenate([code.values for code in held]),
            np.concatenate([code.indices for code in held]).astype(np.int64),
            offsets,
        ),
        shape=(len(rows), width),
    )
    return GroundTruth(
        rows=rows, codes=codes, dense=dense / np.linalg.norm(dense, axis=1, keepdims=True)
    )


@dataclass(frozen=True, kw_only=True)
class QuerySet:
    """Queries of every kind, and which rows answer them."""

    queries: dict[str, list[Code]]
    labels: list[str]
    """The label of each row."""
    texts: list[str]
    """The labels that are the text queries."""
    images: list[int]
    """The rows whose images are the image queries."""

    @classmethod
    def draw(
        cls,
        client: Client,
        truth: GroundTruth,
        samples: Mapping[str, Sample],
        count: int,
        rng: np.random.Generator,
    ) -> QuerySet:
        """Draws `count` queries of each kind at random: labels of rows, rows, and labels minus half
        of another label."""
        rows = [samples[row_key(row)] for row in truth.rows]
        labels = [str(sample.meta["group"]) for sample in rows]
        names = sorted(set(labels))
        texts = [str(name) for name in rng.permutation(names)[:count]]
        images = [int(row) for row in rng.permutation(len(rows))[:count]]
        others = [str(name) for name in rng.permutation(names)[:count]]
        parts = {
            "text": [[QueryTerm(text=text)] for text in texts],
            "image": [[QueryTerm(image=rows[row].png)] for row in images],
            "text without another": [
                [QueryTerm(text=text), QueryTerm(text=other, weight=-0.5)]
                for text, other in zip(texts, others, strict=True)
                if text != other
            ],
        }
        queries = {
            kind: [code_of(make_query(client, entry).vector) for entry in entries]
            for kind, entries in parts.items()
        }
        return cls(queries=queries, labels=labels, texts=texts, images=images)

    def quality(self, truth: GroundTruth) -> dict[str, float]:
        """The share of queries with a row of the same label among the ten nearest, the image itself
        left out.

        The projections of images and texts read vectors of different spaces, so only images are
        searched by theirs.
        """
        labels = np.array(self.labels)
        text = [
            label in labels[nearest(truth.scores(query))]
            for label, query in zip(self.texts, self.queries["text"], strict=True)
        ]
        alone = [row for row in self.images if (labels == labels[row]).sum() > 1]

        def images(scores: Callable[[int], NDArray[np.float32]]) -> float:
            return float(
                np.mean([labels[row] in labels[nearest(scores(row), exclude=row)] for row in alone])
            )

        return {
            "text, sparse": round(float(np.mean(text)), 4),
            "image, sparse": round(
                images(lambda row: truth.scores(code_of(truth.rows[row].vector))), 4
            ),
            "image, input of the projection": round(
                images(lambda row: truth.dense @ truth.dense[row]), 4
            ),
        }


def row_key(row: IndexRow) -> str:
    """The key of a row's sample in the data set."""
    return row.id.rpartition("/")[2]


def nearest(scores: NDArray[np.float32], exclude: int | None = None) -> NDArray[np.intp]:
    """The TOP rows of the highest scores, without the row `exclude`."""
    order = np.argsort(-scores, kind="stable")[: TOP + 1]
    return (order if exclude is None else order[order != exclude])[:TOP]
