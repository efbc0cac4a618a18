"""embed, classify, concepts and explain against a real server: rows, tables, exit codes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.cli.explain import shade
from sparseclip import Client
from tests.serving.cli.conftest import Run

ORDER = ["a.png", "b.jpg", "below/c.webp", "broken.png"]


def test_embed_gives_one_object_a_line_for_every_input(
    run: Run, address: str, images: Path
) -> None:
    ended = run("embed", images, "--text", "a red square", "--json", "--server", address)
    assert ended.code == 1
    sources = [str(images / name) for name in ORDER] + ["a red square"]
    assert [row["source"] for row in ended.rows] == sources
    broken = ended.rows[3]
    assert set(broken) == {"source", "error"}
    assert broken["error"]["code"] == "INVALID_ARGUMENT"
    for row in ended.rows[:3] + ended.rows[4:]:
        assert len(row["indices"]) == len(row["values"]) <= row["active"]
        assert row["indices"] == sorted(set(row["indices"]))
        ranked = [entry["value"] for entry in row["concepts"]]
        assert ranked == sorted(ranked, reverse=True)
        assert row["model"]["name"]


def test_embed_agrees_with_the_client(run: Run, address: str, images: Path) -> None:
    [row] = run("embed", images / "a.png", "--json", "--server", address).rows
    with Client(address) as client:
        [answer] = client.embed([images / "a.png"])
    assert row["indices"] == answer.indices.tolist()
    np.testing.assert_allclose(row["values"], answer.values, rtol=1e-5)


def test_embed_adds_the_outputs_that_were_asked_for(run: Run, address: str, images: Path) -> None:
    [row] = run(
        "embed", images / "a.png", "--dense", "--patch", "0", "--top", "0", "--json",
        "--server", address,
    ).rows  # fmt: skip
    with Client(address) as client:
        info = client.model_info()
    assert len(row["dense"]) == info.dense_dim
    [patch] = row["patches"]
    assert patch["concept_id"] == 0
    assert np.shape(patch["map"]) == (info.patch_rows, info.patch_columns)
    assert row["concepts"] == []


def test_the_table_names_every_image_and_the_error(run: Run, address: str, images: Path) -> None:
    ended = run("embed", images, "--server", address)
    assert ended.code == 1
    header, *rows = ended.out.splitlines()
    assert header.split() == ["source", "concepts", "active", "ms", "notes"]
    assert [row.split()[0] for row in rows] == [str(images / name) for name in ORDER]
    assert "unsupported image" in rows[3]
    assert ended.err == f"{images}: left out 1 .txt\n"


def test_in_process_gives_what_a_server_gives(
    run: Run, address: str, images: Path, tiny_bundle: Path
) -> None:
    served = run("embed", images / "a.png", "--json", "--server", address).rows
    local = run("embed", images / "a.png", "--json", "--bundle", tiny_bundle).rows
    default = run("embed", images / "a.png", "--json", SPARSECLIP_BUNDLE=str(tiny_bundle)).rows
    for row in (*served, *local, *default):
        del row["timings"]
    assert served == local == default


def test_classify_gives_a_label_and_scores(run: Run, address: str, images: Path) -> None:
    ended = run(
        "classify", images, "--labels", "red, green", "--labels", "blue", "--json",
        "--server", address,
    )  # fmt: skip
    assert ended.code == 1
    assert [row["source"] for row in ended.rows] == [str(images / name) for name in ORDER]
    for row in ended.rows[:3]:
        assert list(row["scores"]) == ["red", "green", "blue"]
        assert sum(row["scores"].values()) == pytest.approx(1.0)
        assert row["label"] == max(row["scores"], key=row["scores"].__getitem__)
    assert "error" in ended.rows[3]
    assert run(
        "classify", images / "a.png", "--labels", "red,blue", "--server", address
    ).code == 0  # fmt: skip


def test_concepts_list_get_and_search(run: Run, address: str) -> None:
    with Client(address) as client:
        count = client.model_info().concepts
        some = client.get_concept(1)
    listed = run("concepts", "list", "--json", "--server", address)
    assert [row["concept_id"] for row in listed.rows] == list(range(count))
    assert len(run("concepts", "list", "--limit", "3", "--json", "--server", address).rows) == 3
    got = run("concepts", "get", "1", some.name, "no such concept", "--json", "--server", address)
    assert got.code == 1
    assert [row["source"] for row in got.rows] == ["1", some.name, "no such concept"]
    assert got.rows[1]["concept_id"] == 1
    assert got.rows[2]["error"]["code"] == "NOT_FOUND"
    found = run("concepts", "search", some.name, "--json", "--limit", "4", "--server", address)
    [row] = found.rows
    assert row["source"] == some.name
    assert 1 <= len(row["matches"]) <= 4
    assert 1 in [match["concept"]["concept_id"] for match in row["matches"]]
    table = run("concepts", "search", some.name, "--server", address)
    assert (table.code, some.name in table.out) == (0, True)


def test_explain_writes_overlays_and_shows_maps(
    run: Run, address: str, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "overlays"
    ended = run(
        "explain", images / "a.png", images / "broken.png", "--top", "2", "--out", out,
        "--json", "--server", address,
    )  # fmt: skip
    assert ended.code == 1
    row, broken = ended.rows
    assert "error" in broken
    assert 1 <= len(row["concepts"]) <= 2
    for entry in row["concepts"]:
        assert entry["exact"], "the tiny bundle pools codes over patches"
        assert np.mean(entry["map"]) == pytest.approx(entry["value"], rel=1e-3)
        with Image.open(io.BytesIO(Path(entry["overlay"]).read_bytes())) as overlay:
            assert overlay.format == "PNG"
    again = run("explain", images / "a.png", "--top", "2", "--out", out, "--server", address)
    assert again.code == 0, "an older overlay is replaced"
    assert len(list(out.iterdir())) == len(row["concepts"])
    own = Path(row["concepts"][0]["overlay"])
    Image.new("L", (8, 8)).save(own)
    before = own.read_bytes()
    refused = run("explain", images / "a.png", "--top", "2", "--out", out, "--server", address)
    assert (refused.code, own.read_bytes()) == (1, before)
    problem = f"--out: {own.name}: is there and is no overlay; choose another folder"
    assert problem in refused.err
    shown = run("explain", images / "a.png", "--concept", "0", "--server", address)
    assert shown.code == 0
    assert str(images / "a.png") in shown.out.replace("\n", "")


def test_shade_is_darkest_at_the_peak() -> None:
    values = np.array([[0.0, 0.1], [0.5, 1.0]], dtype=np.float32)
    assert shade(values) == ["  ░░", "▒▒██"]
    assert shade(np.zeros((1, 2), dtype=np.float32)) == ["    "]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["embed"], 2, "at least one image"),
        (["embed", "https://example.org/cat.png"], 2, "addresses are not fetched"),
        (["classify", "file:///etc/passwd", "--labels", "a"], 2, "addresses are not fetched"),
        (["classify", "x.png"], 2, "--labels"),
        (["classify", "x.png", "--labels", "cat,,dog"], 2, "--labels: label 2 is empty"),
        (["classify", "x.png", "--labels", "a,a"], 2, "given twice"),
        (["classify", "x.png", "--labels", ","], 2, "--labels: label 1 is empty"),
        (["embed", "x.png", "--bundle", "models/demo"], 2, "exclude each other"),
        (["embed", "x.png", "--cert", "pyproject.toml"], 2, "together"),
        (["embed", "x.png"], 1, "no such file"),
        (["explain", "x.png"], 1, "no such file"),
        (["embed", "--text", "a", "--model", "nobody"], 1, "NOT_FOUND"),
    ],
)
def test_mistakes_end_with_one_clear_line(
    run: Run, address: str, arguments: list[str], code: int, message: str
) -> None:
    ended = run(*arguments, "--server", address)
    assert ended.code == code
    assert message in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_no_server_is_one_line(run: Run, tmp_path: Path) -> None:
    ended = run("embed", "--text", "a", "--server", f"unix:{tmp_path}/nobody")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("Error: UNAVAILABLE")


def test_tls_options_need_a_server(run: Run) -> None:
    ended = run("embed", "--text", "a", "--tls", "--bundle", "models/demo")
    assert ended.code == 2
    assert "the TLS options need --server" in ended.err


def test_an_empty_folder_is_a_mistake(run: Run, address: str, tmp_path: Path) -> None:
    ended = run("embed", tmp_path, "--server", address)
    assert ended.code == 2
    assert "no image in this folder" in ended.err
