"""An export, whole and interrupted: F-47, F-48, F-49, F-50."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as dataset
import pytest
from click.testing import CliRunner

from bundle.image import ImageLimits, decode_image
from bundle.store import open_bundle
from bundle.verify import verify
from serving.cli.main import main
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import Engine, EngineConfig
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine
from serving.engines.outputs import OutputRow, rows_of
from tests.serving.export.command import BROKEN, COUNT, files, options, run


def test_rows_are_what_the_model_gives(whole: Path, images: Path, tiny_bundle: Path) -> None:
    rows = dataset.dataset(whole / "data").to_table().to_pylist()
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert len(rows) == COUNT - len(BROKEN)
    bundle = open_bundle(tiny_bundle)
    engine = OnnxRuntimeEngine.open(bundle, EngineConfig())
    for row in rows[::7]:
        image = decode_image((images / row["source"]).read_bytes(), ImageLimits())
        output = engine.run("image", bundle.preprocessor(image)[None])
        [expected] = rows_of(output, 1, bundle.manifest.architecture, "image")
        assert isinstance(expected, OutputRow)
        assert row["indices"] == expected.indices.tolist()
        np.testing.assert_allclose(row["values"], expected.values, rtol=1e-5)
        np.testing.assert_allclose(row["dense"], expected.dense, rtol=1e-4, atol=1e-5)
        names = [bundle.concepts.concepts[concept].name for concept, _ in expected.top(10)]
        assert [concept["name"] for concept in row["concepts"]] == names


@pytest.mark.kind("K8")
def test_a_bundle_that_changes_while_it_is_loaded_is_refused(
    images: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "models" / "1"))

    def rewritten(*arguments: Any) -> Engine:
        (bundle / "image.onnx").write_bytes((tiny_bundle / "image.onnx").read_bytes())
        return open_engine(*arguments)

    monkeypatch.setattr("serving.export.export_worker.open_engine", rewritten)
    printed = run(images, tmp_path / "out", *options(bundle), code=1)
    assert printed == "Error: image.onnx: changed while it was read\n"


def test_outputs_are_chosen(
    images: Path,
    tiny_bundle: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Maps of concepts are what the model gives; the codes may be left out."""
    bundle = open_bundle(tiny_bundle)
    name = bundle.concepts[5].name
    arguments = ["--no-sparse", "--top", 0, "--patch", name, "--patch", 2, "--patch", 5]
    verified = list[Path]()
    with monkeypatch.context() as patch:
        patch.setattr("bundle.store.verify", lambda path: verified.append(path) or verify(path))
        run(images, tmp_path / "maps", *arguments, *options(tiny_bundle))
    assert verified == [tiny_bundle], "once, however often the export asks for it"
    table = dataset.dataset(tmp_path / "maps" / "data").to_table()
    read = ["framing", "image_share", "ground", "frames"]
    names = ["id", "source", "generation", "active", "norm", *read, "patch_2", "patch_5"]
    assert table.column_names == names
    assert {row["framing"] for row in table.select(read).to_pylist()} == {"crop"}
    engine = OnnxRuntimeEngine.open(bundle, EngineConfig())
    shape = bundle.manifest.architecture
    maxima = []
    for row in table.to_pylist():
        image = decode_image((images / row["source"]).read_bytes(), ImageLimits())
        output = engine.run("patches", bundle.preprocessor(image)[None])
        [expected] = rows_of(output, 1, shape, "patches")
        assert isinstance(expected, OutputRow)
        assert expected.patches is not None
        for concept in (2, 5):
            values = np.array(row[f"patch_{concept}"])
            assert values.shape == shape.patch_grid
            np.testing.assert_allclose(values.ravel(), expected.patches.map(concept), rtol=1e-4)
            maxima.append(values.max())
    assert max(maxima) > 0
    rows = dataset.dataset(whole / "data").to_table()
    assert table["id"].equals(rows["id"])
    np.testing.assert_allclose(table["norm"], rows["norm"], rtol=1e-5)
    printed = run(images, tmp_path / "x", "--patch", "no such thing", *options(tiny_bundle), code=1)
    assert printed == "Error: --patch no such thing: no concept has this name\n"
    assert not (tmp_path / "x").exists()
    for command in (["report", "-o", tmp_path / "x"], ["index", f"opensearch:{tmp_path / 'x'}"]):
        command.insert(1, tmp_path / "maps")
        done = CliRunner().invoke(main, list(map(str, command)))
        assert done.exit_code == 1
        assert (
            done.output
            == f"Error: {tmp_path / 'maps'}: exported with --no-sparse: it holds neither codes "
            "nor dense vectors\n"
        )


def test_f50_what_cannot_be_read_is_in_quarantine_and_all_adds_up(whole: Path) -> None:
    quarantined = dataset.dataset(whole / "quarantine").to_table().to_pylist()
    assert {row["id"] for row in quarantined} == {f"{n % 3}/{n:04d}.png" for n in BROKEN}
    assert all(row["reason"] for row in quarantined)
    done = json.loads((whole / "DONE.json").read_text())
    assert done["rows"] + done["quarantined"] == done["entries"] == COUNT
    assert run("verify", whole) == "whole\n"


def kill_and_resume(images: Path, bundle: Path, output: Path, kills: int, seconds: float) -> None:
    """Starts an export and kills it at a random moment, `kills` times; the last one may end."""
    command = [sys.executable, "-m", "serving.cli.main", "export", images, output, "--dense"]
    command += map(str, options(bundle))
    rng = random.Random(0)
    for number in range(kills):
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        finished = len(list(output.glob("receipts/*.json")))
        # Every other run is killed among its shards, where there is most to lose.
        while number % 2 and process.poll() is None:
            if len(list(output.glob("receipts/*.json"))) > finished:
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03 if number % 2 else seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (output / "DONE.json").exists():  # it ended before it was killed: remove some of it
            for path in rng.sample(sorted(output.glob("receipts/*.json")), 3):
                path.unlink()
            (output / "DONE.json").unlink()
    run(images, output, *options(bundle), "--dense")


def test_f47_killed_at_any_moment_it_ends_the_same(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    kill_and_resume(images, tiny_bundle, output, kills=4, seconds=1.5)
    assert files(output) == files(whole)
    assert run("verify", output) == "whole\n"


@pytest.mark.soak
def test_f47_killed_200_times(images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    kill_and_resume(images, tiny_bundle, output, kills=200, seconds=3.0)
    assert files(output) == files(whole)
    assert run("verify", output) == "whole\n"


def test_f48_altered_and_missing_shards_are_made_again(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(whole, tmp_path / "altered")
    first, second, *_ = sorted((output / "data").iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.unlink()
    (output / "data" / "stray.parquet").write_bytes(b"")
    printed = run("verify", output, code=1)
    assert f"data/{first.name}: altered" in printed
    assert f"data/{second.name}: missing" in printed
    assert "data/stray.parquet: no receipt knows it; move it to another folder" in printed
    (output / "data" / "stray.parquet").unlink()
    run(images, output, *options(tiny_bundle), "--dense")
    assert files(output) == files(whole)


def test_f48_another_job_is_refused(images: Path, tiny_bundle: Path, whole: Path) -> None:
    """And the error says what differs, not that files have changed."""
    before = files(whole)
    printed = run(images, whole, *options(tiny_bundle), code=1)
    assert "the output holds another export: --dense was on and is off." in printed
    printed = run(images, whole, *options(tiny_bundle, rows=5), "--dense", code=1)
    assert "the output holds another export: --rows was 8 and is 5." in printed
    printed = run(images, whole, *options(tiny_bundle), "--dense", "--prefix", "a/", code=1)
    assert "--prefix was not given and is a/" in printed
    assert files(whole) == before


def test_f49_two_workers_share_an_output(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "shared"
    command = [sys.executable, "-m", "serving.cli.main", "export", images, output, "--dense"]
    command += options(tiny_bundle)
    workers = [
        subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 0, errors
    assert files(output) == files(whole)


def test_several_workers_of_one_command(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "several"
    run(images, output, *options(tiny_bundle), "--dense", "--workers", 2)
    assert files(output) == files(whole)
