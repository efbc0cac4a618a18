"""Verified means all of an export: each damage is named, and `export` mends what it can."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.export.formats import FORMATS
from serving.export.receipt import Receipt, read_receipt
from serving.storage.location import Location
from tests.cases.living_collections import AFTER, BEFORE, COLLECTIONS
from tests.serving.export.command import files, options, run

pytestmark = pytest.mark.kind("K8")


def settings(bundle: Path, form: str) -> list[object]:
    return [*options(bundle, rows=4), "--format", form]


@pytest.fixture(scope="module")
def exports(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with an update in each format, and its input `in`."""
    work = tmp_path_factory.mktemp("damage")
    write = COLLECTIONS["folder"]
    for form in FORMATS.names:
        run(*write(work / "in", BEFORE), work / form, *settings(tiny_bundle, form))
        # The shards of an export are made again from what they were made from.
        shutil.copytree(work / "in", work / f"{form}-in", copy_function=shutil.copy2)
    write(work / "in", {**BEFORE, **{name: AFTER[name] for name in ("20", "21")}})
    for form in FORMATS.names:
        run(work / "in", work / form, *settings(tiny_bundle, form), "--update")
    return work


def receipt_of(output: Path, number: int) -> Receipt:
    receipt = read_receipt(Location.parse(str(output)), number)
    assert receipt is not None
    return receipt


def _alter_rows(output: Path) -> str:
    path = output / "receipts" / "part-000000.json"
    receipt = json.loads(path.read_text())
    path.write_text(json.dumps(receipt | {"rows": 3, "quarantined": 1}))
    return "receipts/part-000000.json: altered"


def _swap_shard(output: Path) -> str:
    """Another shard's file, with its own digest in the receipt."""
    one, other = receipt_of(output, 2), receipt_of(output, 3)
    [old], [new] = ([p for p in r.files if p.startswith("data/")][:1] for r in (one, other))
    shutil.copy(output / new, output / old)
    path = output / "receipts" / "part-000002.json"
    text = path.read_text()
    path.write_text(text.replace(one.files[old].sha256, other.files[new].sha256))
    return "receipts/part-000002.json: altered"


def _empty_receipt(output: Path) -> str:
    (output / "receipts" / "part-000003.json").write_bytes(b"")
    return "receipts/part-000003.json: damaged"


def _remove_receipt_of_the_update(output: Path) -> str:
    (output / "receipts" / "part-000005.json").unlink()
    return "receipts/part-000005.json: missing; the shard is not finished"


def _empty_listing(output: Path) -> str:
    (output / "plan" / "made.json").write_bytes(b"{}")
    return "plan/made.json: missing or altered"


def _empty_summary(output: Path) -> str:
    (output / "DONE.json").write_bytes(b"{}")
    return "DONE.json: damaged"


OF_SHARDS = [
    _alter_rows,
    _swap_shard,
    _empty_receipt,
    _remove_receipt_of_the_update,
    _empty_listing,
    _empty_summary,
]
"""Damages that can be there at the same time; each one gives the line that names it."""


def _zarr_group(output: Path) -> str:
    (output / "data" / "zarr.json").unlink()
    return "data/zarr.json: missing"


def _lance_versions(output: Path) -> str:
    shutil.rmtree(output / "_versions")
    return "_versions: no version of the dataset has these shards"


def _totals(output: Path) -> str:
    done = json.loads((output / "DONE.json").read_text())
    (output / "DONE.json").write_text(json.dumps(done | {"rows": 7}))
    return f"DONE.json: rows is 7, the receipts say {done['rows']}"


OF_A_FORMAT: dict[str, Callable[[Path], str]] = {
    "parquet": _totals,
    "zarr": _zarr_group,
    "lance": _lance_versions,
}
"""What is written when an export ends: a new format needs a row here."""


@pytest.mark.parametrize("form", FORMATS.names)
def test_every_damage_is_named_and_mended(
    form: str, exports: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output, before = tmp_path / "out", files(exports / form)
    shutil.copytree(exports / form, output)
    lines = [damage(output) for damage in OF_SHARDS]
    printed = run("verify", output, code=1).splitlines()
    assert sorted(printed[:-1]) == sorted(lines)
    assert printed[-1].startswith(f"{len(lines)} problems; exporting again mends those")
    run(exports / "in", output, *settings(tiny_bundle, form))
    assert run("verify", output) == "whole\n"
    line = OF_A_FORMAT[form](output)
    assert line in run("verify", output, code=1)
    run(exports / "in", output, *settings(tiny_bundle, form))
    assert run("verify", output) == "whole\n"
    after = files(output)
    of_lance = {name for name in after | before if name.startswith("_")}
    unlike = {name for name in after | before if after.get(name) != before.get(name)}
    assert unlike <= of_lance | {"plan/made.json"}


@pytest.mark.parametrize("name", ["job.json", "updates/000001/job.json"])
@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_a_job_that_is_damaged_is_written_again(
    name: str, how: str, exports: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(exports / "parquet", tmp_path / "out")
    whole = (output / name).read_bytes()
    (output / name).unlink() if how == "removed" else (output / name).write_bytes(b"")
    assert "job.json" in run("verify", output, code=1)
    printed = run(exports / "in", output, *options(tiny_bundle, rows=5), code=1)
    assert "was not made from this plan with these settings" in printed or "rows was 4" in printed
    run(exports / "in", output, *settings(tiny_bundle, "parquet"))
    assert (output / name).read_bytes() == whole
    assert run("verify", output) == "whole\n"


def test_what_export_cannot_mend_says_what_to_do(exports: Path, tmp_path: Path) -> None:
    """A receipt that was forged with care, files of others, a plan that is damaged."""
    output = shutil.copytree(exports / "parquet", tmp_path / "out")
    path = output / "receipts" / "part-000002.json"
    forged = dataclasses.replace(receipt_of(output, 2), rows=3, quarantined=1)
    path.write_bytes(dataclasses.replace(forged, sha256=forged.digest).to_json())
    stray = f"data/part-000001-{'0' * 16}.parquet"
    for name in (stray, "data/thesis.txt", "receipts/mine.txt"):
        (output / name).write_bytes(b"mine")
    printed = run("verify", output, code=1)
    assert "receipts/part-000002.json: counts other rows than its files hold" in printed
    assert "DONE.json: not of these receipts" in printed
    assert f"{stray}: no receipt knows it; another export left it: remove it" in printed
    assert "data/thesis.txt: no receipt knows it; move it to another folder" in printed
    assert "receipts/mine.txt: no receipt knows it; move it to another folder" in printed
    (output / "plan" / "part-000000.parquet").write_bytes(b"")
    printed = run("verify", output, code=1)
    assert "plan/part-000000.parquet: missing or damaged; export to a new folder" in printed


def test_a_finished_export_that_is_run_again_writes_nothing(
    exports: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """On a read-only disk too, then; and its figures stay."""
    output = shutil.copytree(exports / "parquet", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]}
    assert json.loads((output / "DONE.json").read_text())["run"]["entries"] == 2
    arguments = [exports / "in", output, *settings(tiny_bundle, "parquet")]
    assert run(*arguments).startswith("whole already: update 1: ")
    assert {path: path.stat().st_mtime_ns for path in [output, *output.rglob("*")]} == before


def test_of_two_exports_that_begin_at_once_the_first_one_wins(
    exports: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "serving.cli.main", "export", exports / "in", output]
    processes = [
        subprocess.Popen(
            list(map(str, [*command, *options(tiny_bundle, rows=rows)])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rows in (4, 5)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1]
    [error] = [text for text in errors if text]
    assert error.startswith("Error: the output holds another export: --rows was ")
    assert error.count("\n") == 1
    assert run("verify", output) == "whole\n"


def test_a_file_is_written_by_one_of_several(tmp_path: Path) -> None:
    for location in (tmp_path / "job.json", "memory://once/job.json"):
        file = Location.parse(str(location))
        assert [file.write_new(data) for data in (b"one", b"two")] == [True, False]
        assert file.read() == b"one"
