"""A dense model's export in every database: the nearest vectors, all of them, and advice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from serving.cli.main import main
from serving.in_process import local_server
from serving.index.database_address import open_database
from serving.index.databases import DATABASES
from serving.index.databases.base import (
    DatabaseError,
    Origin,
    RequestWriter,
    SearchableDatabase,
)
from serving.index.export_rows import ExportRows
from serving.index.query import QueryError, QueryTerm, make_query
from sparseclip import Client
from tests.serving.export.command import options, run
from tests.serving.export.image_folders import folder, png
from tests.serving.index.databases.test_databases import in_memory
from tests.support.tiny_dense import DENSE_DIM

NAME, TOP, COUNT = "dense_rows", 10, 60

TERMS = {
    "text": [QueryTerm(text="a red circle")],
    "image": [QueryTerm(image=png(7))],
    "both": [QueryTerm(image=png(8)), QueryTerm(text="dog", weight=-0.7)],
}

pytestmark = pytest.mark.kind("K7")


@pytest.fixture(scope="module")
def exported(dense_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("dense-index")
    run(folder(work / "in", COUNT, (3,)), work / "out", *options(dense_bundle, rows=16))
    return work / "out"


@pytest.fixture(scope="module")
def client(dense_bundle: Path) -> Iterator[Client]:
    with local_server(dense_bundle) as address, Client(address) as opened:
        yield opened


def command(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done.output


SERVER = "qdrant server"
"""No server, but its own client playing one in memory."""


def address_of(kind: str, folder: Path, postgres: str) -> str:
    addresses = {"milvus": f"milvus:{folder / 'milvus.db'}", "pgvector": f"pgvector:{postgres}"}
    return addresses.get(kind, f"{kind}:{folder / kind}")


@pytest.mark.parametrize("kind", [*DATABASES.names, SERVER])
def test_the_nearest_vectors_are_found(
    kind: str,
    exported: Path,
    dense_bundle: Path,
    client: Client,
    postgres: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row for batch in ExportRows.open(str(exported)).batches(7) for row in batch]
    matrix = np.stack([row.vector for row in rows])
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-5)
    address = in_memory(monkeypatch) if kind == SERVER else address_of(kind, tmp_path, postgres)
    said = command("index", exported, address, "--name", NAME)
    assert f"{COUNT - 1} new, 0 changed, 0 as they were, 0 removed; " in said
    queries = [make_query(client, terms, dense=True).vector for terms in TERMS.values()]
    assert all(isinstance(query, np.ndarray) for query in queries)
    where = ("search", address, "--name", NAME, "--bundle", dense_bundle)
    with open_database(address, NAME) as database:
        if isinstance(database, RequestWriter):
            _check_files(kind, tmp_path / kind, matrix, database, queries[0])
        else:
            assert isinstance(database, SearchableDatabase)
            origin = database.origin()
            assert origin.dense_dim == DENSE_DIM
            assert database.count() == COUNT - 1
            for query in queries:
                assert isinstance(query, np.ndarray)
                hits, cosines = database.search(query, TOP), matrix @ query
                expected = np.argsort(-cosines)[:TOP]
                assert {hit.id for hit in hits} == {rows[row].id for row in expected}
                np.testing.assert_allclose(
                    [hit.score for hit in hits], cosines[expected], atol=1e-5
                )
            codes = Origin(model=origin.model, bundle=origin.bundle)
            with pytest.raises(DatabaseError, match="holds dense vectors, not codes"):
                database.prepare(codes)
    if kind not in ("opensearch", "elasticsearch"):
        again = command("index", exported, address, "--name", NAME)
        assert f"0 new, 0 changed, {COUNT - 1} as they were" in again
        found = command(*where, "--text", "a red circle", "--top", 3, "--json")
        scores = [json.loads(line)["score"] for line in found.splitlines()]
        np.testing.assert_allclose(scores, np.sort(matrix @ queries[0])[::-1][:3], atol=1e-5)
    if kind == "pgvector":
        command("index", exported, address, "--name", "dense_quick", "--hnsw")
        with open_database(address, "dense_quick") as quick:
            hits = quick.search(queries[1], TOP)  # type: ignore[attr-defined]
        nearest = {rows[row].id for row in np.argsort(-(matrix @ queries[1]))[:TOP]}
        assert len({hit.id for hit in hits} & nearest) >= 9
    for option in ("--concept", "--without"):
        refused = command(*where, "--text", "dog", option, "dog", code=1)
        assert refused.count("\n") == 1
        assert f"{option}: {NAME} holds dense vectors" in refused
        assert "sparsify" in refused


def test_a_sparse_model_searches_the_dense_vectors_that_it_shares(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    options_given = [*options(tiny_bundle), "--no-sparse", "--top", "0", "--dense"]
    run(folder(tmp_path / "in", 12), tmp_path / "out", *options_given)
    address = f"qdrant:{tmp_path / 'qdrant'}"
    command("index", tmp_path / "out", address)
    where = ("search", address, "--bundle", tiny_bundle, "--json", "--top", 1)
    for path in sorted((tmp_path / "in").rglob("*.png"))[:2]:
        [hit] = command(*where, "--image", path).splitlines()
        assert json.loads(hit)["id"].endswith(path.name)
        assert json.loads(hit)["score"] == pytest.approx(1, abs=1e-5)


def _check_files(
    kind: str, folder: Path, matrix: np.ndarray, database: RequestWriter, query: object
) -> None:
    """What is written for a database that nothing here connects to."""
    lines = [json.loads(line) for line in (folder / "bulk-000000.ndjson").read_text().splitlines()]
    np.testing.assert_allclose([line["dense"] for line in lines[1::2]], matrix, atol=1e-6)
    properties = json.loads((folder / "index.json").read_text())["mappings"]["properties"]
    expected = {
        "opensearch": {"type": "knn_vector", "dimension": DENSE_DIM},
        "elasticsearch": {"type": "dense_vector", "dims": DENSE_DIM, "index": False},
    }
    assert properties["dense"] == expected[kind]
    script = database.search_request(query, 5)["query"]["script_score"]["script"]  # type: ignore[arg-type]
    assert script["source"].startswith(("knn_score", "cosineSimilarity"))


def test_concepts_are_no_part_of_a_dense_query(client: Client) -> None:
    with pytest.raises(QueryError, match="concept 3: .*sparsify"):
        make_query(client, [QueryTerm(text="dog"), QueryTerm(concept=3)], dense=True)
