"""A collection lives: an export follows it, and its readers see what a new export would hold."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow.dataset as dataset
import pytest
import zarr

from serving.export.export_reader import ExportReader
from serving.export.formats import FORMATS
from serving.export.inputs import INPUTS
from tests.cases.living_collections import AFTER, BEFORE, CHANGED, COLLECTIONS, GONE, NEW
from tests.serving.export.command import files, options, run

pytestmark = pytest.mark.kind("K10")

Rows = dict[str, tuple[Any, ...]]
"""What a row holds, by its id."""


def live_rows(output: Path) -> Rows:
    """As `report` and `index` read them."""
    export = ExportReader.open(str(output))
    assert export.is_whole
    columns = ["id", "source", "indices", "values", "active"]
    rows: Rows = {}
    for receipt in export.receipts:
        for batch in export.batches(receipt, columns):
            assert batch.schema.names == columns
            for row in batch.to_pylist():
                assert row["id"] not in rows
                rows[row["id"]] = tuple(map(str, row.values()))
    assert len(rows) == export.rows
    return rows


def live_quarantine(output: Path) -> dict[str, str]:
    export = ExportReader.open(str(output))
    return {
        row["id"]: row["reason"]
        for receipt in export.receipts
        for batch in export.quarantine(receipt, ["id", "reason"])
        for row in batch.to_pylist()
    }


@pytest.mark.parametrize("kind", INPUTS.names)
def test_an_updated_export_holds_what_a_new_one_would(
    kind: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    write, output = COLLECTIONS[kind], tmp_path / "out"
    arguments = [*write(tmp_path / "in", BEFORE), output, *options(tiny_bundle)]
    run(*arguments)
    before = files(output)
    write(tmp_path / "in", AFTER)
    printed = run(*arguments)
    assert printed.startswith("whole already: 19 rows, 1 in quarantine")
    # All entries of a shard or a table that was written again count as changed.
    assert f"{NEW} new, " in printed
    assert f", {GONE} gone" in printed
    if kind in ("folder", "list"):
        assert (
            f"INPUT has changed since it was listed: {NEW} new, {CHANGED} changed, {GONE} gone. "
            "This is not in the export; --update takes it\n" in printed
        )
    assert files(output) == before
    printed = run(*arguments, "--update")
    assert "update 1: 18 rows, 2 in quarantine" in printed
    after = files(output)
    assert before.items() <= after.items()
    run(*write(tmp_path / "in", AFTER), tmp_path / "new", *options(tiny_bundle))
    assert live_rows(output) == live_rows(tmp_path / "new")
    assert live_quarantine(output) == live_quarantine(tmp_path / "new")
    assert run("verify", output) == "whole\n"
    assert run(*arguments, "--update").endswith("up to date with INPUT\n")
    assert files(output) == after


@pytest.fixture(scope="module")
def begun(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `in`, which has changed since it was exported to a folder for each format."""
    work = tmp_path_factory.mktemp("updates")
    for form in FORMATS.names:
        run(*COLLECTIONS["folder"](work / "in", BEFORE), work / form, *settings(tiny_bundle, form))
    COLLECTIONS["folder"](work / "in", AFTER)
    return work


def settings(bundle: Path, form: str) -> list[object]:
    return [*options(bundle, rows=4), "--format", form]


@pytest.fixture(scope="module")
def updated(begun: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exports of `begun` with an update, and the folder `new` with one of what is there now."""
    work = tmp_path_factory.mktemp("updated")
    for form in FORMATS.names:
        shutil.copytree(begun / form, work / form)
        run(begun / "in", work / form, *settings(tiny_bundle, form), "--update")
    run(begun / "in", work / "new", *settings(tiny_bundle, "parquet"))
    return work


def _parquet_ids(output: Path) -> list[str]:
    """As the documents say: without the rows that `ended` names."""
    rows = dataset.dataset(output / "data").to_table(columns=["id", "generation"])
    ended = dataset.dataset(output / "ended").to_table(columns=["id", "generation"])
    live = rows.join(ended, ["id", "generation"], join_type="left anti", use_threads=False)
    return live["id"].to_pylist()


def _zarr_ids(output: Path) -> list[str]:
    ended = dataset.dataset(output / "ended").to_table(columns=["id", "generation"])
    dead = set(zip(ended["id"].to_pylist(), ended["generation"].to_pylist(), strict=True))
    rows = [
        (id, int(generation))
        for _, group in zarr.open_group(output / "data", mode="r").groups()
        for id, generation in zip(group["id"][:], group["generation"][:], strict=True)
    ]
    return [id for id, generation in rows if (id, generation) not in dead]


def _lance_ids(output: Path) -> list[str]:
    """Lance knows by itself."""
    return lance.dataset(output).to_table(columns=["id"])["id"].to_pylist()


OTHER_READERS: dict[str, Callable[[Path], list[str]]] = {
    "parquet": _parquet_ids,
    "zarr": _zarr_ids,
    "lance": _lance_ids,
}
"""How the readers of a format tell the live rows: a new format needs a row here."""


@pytest.mark.parametrize("form", FORMATS.names)
def test_any_format_is_updated_and_any_reader_sees_the_live_rows(form: str, updated: Path) -> None:
    assert run("verify", updated / form) == "whole\n"
    rows = live_rows(updated / form)
    assert rows == live_rows(updated / "new")
    assert sorted(OTHER_READERS[form](updated / form)) == sorted(rows)


def test_quarantined_entries_are_tried_again_if_they_changed_or_if_asked(
    begun: Path, updated: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(updated / "parquet", tmp_path / "out")
    arguments = [begun / "in", output, *settings(tiny_bundle, "parquet")]
    assert "up to date" in run(*arguments, "--update")
    assert "update 2: 18 rows, 2 in quarantine" in run(*arguments, "--update", "--retry-quarantine")
    assert run("verify", output) == "whole\n"
    assert live_rows(output) == live_rows(updated / "new")
    # An update that only ends rows makes no shard, and is no export that was whole already.
    fewer = shutil.copytree(begun / "in", tmp_path / "in")
    (fewer / next(iter(live_rows(output)))).unlink()
    printed = run(fewer, output, *settings(tiny_bundle, "parquet"), "--update")
    assert "\nupdate 3: 17 rows, 2 in quarantine" in printed
    assert "goes with --update" in run(*arguments, "--retry-quarantine", code=2)


def test_another_setting_is_refused_and_an_input_that_is_empty_too(
    begun: Path, updated: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """An input that is not mounted must not end all rows."""
    output, before = updated / "parquet", files(updated / "parquet")
    printed = run(begun / "in", output, *options(tiny_bundle, rows=5), "--update", code=1)
    assert "--rows was 4 and is 5" in printed
    (tmp_path / "in").mkdir()
    arguments = [tmp_path / "in", output, *settings(tiny_bundle, "parquet"), "--update"]
    assert "nothing to export in INPUT" in run(*arguments, code=3)
    assert files(output) == before


def test_a_killed_export_whose_input_grew_resumes_over_its_plan(
    begun: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """It ends, and says what it does not hold; --update ends it and takes the rest at once."""
    source = tmp_path / "in"
    arguments = [*COLLECTIONS["folder"](source, BEFORE), tmp_path / "out"]
    arguments += settings(tiny_bundle, "parquet")
    run(*arguments)
    killed = tmp_path / "out"
    for name in ("DONE.json", "receipts/part-000003.json"):
        (killed / name).unlink()
    shutil.copytree(killed, tmp_path / "other")
    COLLECTIONS["folder"](source, {**BEFORE, "90": AFTER["20"]})
    printed = run(*arguments)
    assert printed.startswith("19 rows, 1 in quarantine")
    assert "1 new, 0 changed, 0 gone. This is not in the export" in printed
    shutil.rmtree(killed)
    (tmp_path / "other").rename(killed)
    printed = run(*arguments, "--update")
    assert "update 1: 20 rows, 1 in quarantine" in printed
    assert run("verify", killed) == "whole\n"


def test_readers_of_an_update_that_is_not_finished_see_what_was_before(
    begun: Path, updated: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(updated / "parquet", tmp_path / "out")
    shutil.copy(begun / "parquet" / "DONE.json", output)
    assert "DONE.json: of generation 0; the last update is not" in run("verify", output, code=1)
    (output / "receipts" / "part-000006.json").unlink()
    assert live_rows(output) == live_rows(begun / "parquet")
    assert "part-000006.json: missing; the shard is not finished" in run("verify", output, code=1)


def kill_update_and_resume(
    begun: Path, output: Path, bundle: Path, kills: int, seconds: float
) -> None:
    """Begins an update and kills it at a random moment, `kills` times; the last one may end."""
    arguments = [begun / "in", output, *settings(bundle, "parquet"), "--update"]
    command = [sys.executable, "-m", "serving.cli.main", "export", *map(str, arguments)]
    rng, shards = random.Random(0), len(list((begun / "parquet" / "receipts").iterdir()))
    for number in range(kills):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        # Every other run is killed while it writes, where there is most to lose.
        while number % 2 and process.poll() is None:
            if (output / "updates").exists():
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.3 if number % 2 else seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = {int(path.stem[5:]) for path in (output / "receipts").iterdir()}
        if max(finished) >= shards and rng.random() < 0.5:  # it ended, or nearly: begin again
            shutil.rmtree(output)
            shutil.copytree(begun / "parquet", output)
    run(*arguments)


@pytest.mark.parametrize(
    ("kills", "seconds"), [(3, 1.5), pytest.param(200, 3.0, marks=pytest.mark.soak)]
)
def test_an_update_that_is_killed_ends_the_same(
    kills: int, seconds: float, begun: Path, updated: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(begun / "parquet", tmp_path / "killed")
    kill_update_and_resume(begun, output, tiny_bundle, kills, seconds)
    assert files(output) == files(updated / "parquet")
    assert run("verify", output) == "whole\n"


def test_a_prefix_tells_the_ids_of_two_exports_apart(
    begun: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    arguments = [begun / "in", tmp_path / "out", *settings(tiny_bundle, "parquet")]
    run(*arguments, "--prefix", "camera-a/")
    assert all(id.startswith("camera-a/") for id in live_rows(tmp_path / "out"))
    assert run(*arguments, "--prefix", "camera-a/", "--update").endswith("up to date with INPUT\n")
