"""`sparseclip engine`: what can run a bundle here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import serving.cli.engine
from bundle.plugins import Plugin
from serving.engines import ENGINES
from tests.serving.cli.conftest import Run
from tests.serving.engine_plans.shaky_engine import ShakyEngine
from tests.support.paths import ROOT


@pytest.fixture
def only_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime, and an engine whose bf16 is wrong."""
    monkeypatch.setattr(ShakyEngine, "cured_by", "nothing")
    table = {
        "onnxruntime": ENGINES.table["onnxruntime"],
        "shaky": Plugin("tests.serving.engine_plans.shaky_engine:ShakyEngine"),
    }
    monkeypatch.setattr(ENGINES, "table", table)
    # The command takes its choices from the table when it is imported.
    monkeypatch.delitem(sys.modules, serving.cli.engine.__name__)


@pytest.mark.usefixtures("only_two")
def test_engines_are_listed_built_and_measured(
    run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engine_plans.measure_rates._BLOCK_S", 0.01)
    where = ["--bundle", str(tiny_bundle), "--cache", str(tmp_path)]

    def states() -> dict[str, str]:
        lines = run("engine", "list", *where, "--json").out.splitlines()
        rows = [json.loads(line) for line in lines]
        return {f"{row['engine']} {row['precision']}": row["state"] for row in rows}

    before = states()
    assert before["onnxruntime fp32"] == "the reference"
    assert before["onnxruntime int8"] == "not built"

    precision = ["--engine", "onnxruntime", "--precision", "int8"]
    built = run("engine", "build", *where, *precision)
    assert built.code == 0
    assert "image" in built.out
    again = run("engine", "build", *where, *precision, "--json")
    record = json.loads(again.out)
    assert record["graphs"]["image"]["parity"]["jaccard"] >= 0.9
    assert "building" not in again.err

    bench = run("engine", "bench", *where, "--batch", "1", "--batch", "4", "--rounds", "1")
    assert "images/s, batch 4" in bench.out
    assert "refused by the parity gate" in bench.out or "parity gate" in bench.out
    assert "is chosen" in bench.err
    after = states()
    assert after["onnxruntime int8"].startswith("passes")
    assert "refused: image: " in after["shaky bf16"]
    assert "top16" in after["shaky bf16"]
    rows = [json.loads(line) for line in run("engine", "list", *where, "--json").out.splitlines()]
    assert [row["chosen"] for row in rows].count(True) == 1


@pytest.mark.usefixtures("only_two")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--engine shaky --precision bf16", "Error: the parity gate refuses it: image: "),
        ("--engine onnxruntime --precision fp32", "there is nothing to build"),
        ("--engine onnxruntime --precision fp16", "engine.precision: onnxruntime on this cpu has"),
        ("--engine shaky --precision int8", "is built from images of yours"),
        ("--engine shaky --precision int8 --images missing", "--images: not a folder"),
        ("--engine onnxruntime --precision int8 --device cuda", "engine.device"),
    ],
)
def test_what_cannot_be_built_is_one_line(
    run: Run, tiny_bundle: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    where = ["--bundle", str(tiny_bundle), "--cache", str(tmp_path)]
    ended = run("engine", "build", *where, *arguments.split())
    assert ended.code == 1
    assert message in ended.err.splitlines()[-1]


@pytest.mark.usefixtures("only_two")
def test_a_refusal_that_is_not_new_is_told_apart(
    run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    command = ["engine", "build", "--engine", "shaky", "--precision", "bf16"]
    where = ["--bundle", str(tiny_bundle), "--cache", str(tmp_path)]
    first, second, again = (run(*command, *where, *more) for more in ([], [], ["--again"]))
    assert [ended.code for ended in (first, second, again)] == [1, 1, 1]
    assert ["built before" in ended.err for ended in (first, second, again)] == [False, True, False]


def test_a_cache_that_cannot_be_read_is_one_line(
    run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ended = run("engine", "list", "--bundle", str(tiny_bundle), "--cache", str(tmp_path / "file"))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Error: --cache: cannot be read: Not a directory\n"


@pytest.mark.usefixtures("only_two")
def test_a_table_without_its_first_column_keeps_its_headers_whole(
    run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    listed = run("engine", "list", "--bundle", str(tiny_bundle), "--cache", str(tmp_path))
    assert listed.out.split()[:3] == ["engine", "precision", "state"]


def test_what_another_process_builds_is_not_built_again(tiny_bundle: Path, tmp_path: Path) -> None:
    """Two are started at the same time: one builds, the other waits and takes its plan."""
    command = [
        sys.executable,
        "-m",
        "serving.cli.main",
        "engine",
        "build",
        "--engine",
        "onnxruntime",
    ]
    command += ["--precision", "int8", "--bundle", str(tiny_bundle), "--cache", str(tmp_path)]
    builders = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(2)
    ]
    ends = [builder.communicate(timeout=120) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert "".join(errors for _, errors in ends).count("building image") == 1
    assert ends[0][0] == ends[1][0] != ""


def test_every_graph_is_quantized(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    """The head of texts is a Gemm, whose weights the library transposes."""
    where = ["--bundle", str(tiny_bundle), "--cache", str(tmp_path), "--json"]
    built = run("engine", "build", "--engine", "onnxruntime", "--precision", "int8", *where)
    graphs = json.loads(built.out)["graphs"]
    assert {name: graph["recipe"] for name, graph in graphs.items()} == {
        "image": "plain",
        "text": "plain",
        "patches": "plain",
    }
