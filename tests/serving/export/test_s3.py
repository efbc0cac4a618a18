"""Input and output on an object store: a real S3 server, on this machine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.dataset as dataset
import pytest
import s3fs
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from serving.cli.main import main
from serving.export.inputs.base import Unreadable
from serving.export.inputs.detection import open_input
from serving.storage.left_out import LeftOut
from tests.serving.export.command import BROKEN, COUNT, files, options, run
from tests.serving.export.image_folders import png, tar

Upload = Callable[[Path], str]
"""Puts a file or a folder on the store; gives its URL."""


@pytest.fixture(scope="module")
def store() -> Iterator[s3fs.S3FileSystem]:
    """A store with a bucket of the name `bucket`; the environment has its address and a key."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        file_system = s3fs.S3FileSystem()
        file_system.mkdir("bucket")
        yield file_system
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def upload(store: s3fs.S3FileSystem) -> Upload:
    def put(path: Path) -> str:
        store.put(str(path), f"bucket/in/{path.name}", recursive=True)
        return f"s3://bucket/in/{path.name}"

    return put


@pytest.fixture(scope="module")
def source(upload: Upload, images: Path) -> str:
    return upload(images)


@pytest.fixture(scope="module")
def here(source: str, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of the same input into a folder of this machine."""
    output = tmp_path_factory.mktemp("here") / "export"
    run(source, output, *options(tiny_bundle), "--dense")
    return output


def fetched(store: s3fs.S3FileSystem, output: str, path: Path) -> dict[str, bytes]:
    """What `files` gives, of an output on the store."""
    store.invalidate_cache()
    store.get(output.removeprefix("s3://"), str(path), recursive=True)
    return files(path)


def test_the_same_bytes_as_in_a_folder(
    store: s3fs.S3FileSystem, source: str, here: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = "s3://bucket/same"
    printed = run(source, output, *options(tiny_bundle), "--dense")
    assert f"{COUNT - len(BROKEN)} rows, {len(BROKEN)} in quarantine" in printed
    assert fetched(store, output, tmp_path / "same") == files(here)
    assert run("verify", output) == "whole\n"
    printed = run(source, output, *options(tiny_bundle), "--dense")
    assert printed.startswith("whole already: ")


def test_killed_and_run_again(
    store: s3fs.S3FileSystem, source: str, here: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output, rng = "s3://bucket/killed", random.Random(0)
    arguments = [source, output, *options(tiny_bundle), "--dense"]
    command = [sys.executable, "-m", "serving.cli.main", "export", *map(str, arguments)]
    for receipts in (1, 4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
        while process.poll() is None:
            store.invalidate_cache()
            if len(store.find("bucket/killed/receipts")) >= receipts:
                break
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(*arguments)
    assert fetched(store, output, tmp_path / "killed") == files(here)


def test_altered_and_missing_objects_are_made_again(
    store: s3fs.S3FileSystem, source: str, here: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = "s3://bucket/altered"
    arguments = [source, output, *options(tiny_bundle), "--dense"]
    run(*arguments)
    first, second, *_ = sorted(store.find("bucket/altered/data"))
    store.pipe_file(first, store.cat_file(first)[:-1] + b"x")
    store.rm_file(second)
    printed = run("verify", output, code=1)
    assert f"{first.removeprefix('bucket/altered/')}: altered" in printed
    assert f"{second.removeprefix('bucket/altered/')}: missing" in printed
    run(*arguments)
    assert fetched(store, output, tmp_path / "altered") == files(here)


@pytest.mark.parametrize("kind", ["tars", "list", "table", "folder"])
def test_every_input_is_read(
    kind: str, store: s3fs.S3FileSystem, upload: Upload, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Names with what a store's client might take as a pattern included."""
    source, more = tmp_path / kind, list[str]()
    source.mkdir()
    for number in range(5):
        (source / f"[{number}]*?.png").write_bytes(png(number))
    if kind == "tars":
        tar(source / "0.tar", 5)
        more = ["--kind", "webdataset"]
    elif kind == "table":
        table = pyarrow.table({"image": [png(number) for number in range(5)]})
        pyarrow.parquet.write_table(table, source / "0.parquet", row_group_size=2)
        more = ["--column", "image", "--kind", "table"]
    where = upload(source)
    if kind == "list":
        (source / "list.txt").write_text("[0]*?.png\n[1]*?.png\n../list/[2]*?.png\ngone.png\n")
        store.put(str(source / "list.txt"), "bucket/in/list/list.txt")
        where, source = f"{where}/list.txt", source / "list.txt"
    rows = []
    for location, output in ((where, tmp_path / "remote"), (source, tmp_path / "local")):
        run(location, output, *more, *options(tiny_bundle))
        rows.append(dataset.dataset(output / "data").to_table())
    assert rows[0].equals(rows[1])
    assert rows[0].num_rows == (3 if kind == "list" else 5)


def test_an_empty_object_costs_itself(
    store: s3fs.S3FileSystem, tiny_bundle: Path, tmp_path: Path
) -> None:
    """A store refuses a range of it."""
    for name, data in {"a.png": png(1), "empty.png": b"", "b.png": png(2)}.items():
        store.pipe_file(f"bucket/empty/{name}", data)
    printed = run("s3://bucket/empty", tmp_path / "out", *options(tiny_bundle))
    assert "2 rows, 1 in quarantine" in printed
    [entry] = dataset.dataset(tmp_path / "out" / "quarantine").to_table().to_pylist()
    assert (entry["id"], entry["reason"]) == ("empty.png", "image: must not be empty")
    opened = open_input("s3://bucket/empty")
    entries = [entry for entry in opened.entries(LeftOut()) if not entry.problem]
    store.pipe_file("bucket/empty/a.png", b"")
    store.pipe_file("bucket/empty/b.png", png(3))
    assert list(opened.read(entries)) == [Unreadable("changed since it was listed")] * 2


@pytest.mark.parametrize("form", ["zarr", "lance"])
def test_other_formats_are_written_and_read(
    form: str, store: s3fs.S3FileSystem, source: str, here: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = f"s3://bucket/{form}"
    run(source, output, *options(tiny_bundle), "--dense", "--format", form)
    assert run("verify", output) == "whole\n"
    pages = {}
    for location, page in (
        (output, "s3://bucket/report.html"),
        (str(here), str(tmp_path / "page")),
    ):
        done = CliRunner().invoke(main, ["report", location, "--input", source, "-o", page])
        assert done.exit_code == 0, done.output
        pages[location] = done.output.partition(": ")[2].partition(", ")[0]
    assert pages[output] == pages[str(here)] == f"{COUNT - len(BROKEN)} rows"
    assert store.size("bucket/report.html") > 100_000


def test_a_list_here_names_images_there(
    source: str, tiny_bundle: Path, tmp_path: Path, images: Path
) -> None:
    names = ["0/0000.png", "1/0001.png", "2/gone.png"]
    (tmp_path / "list.txt").write_text("".join(f"{name}\t{source}/{name}\n" for name in names))
    run(tmp_path / "list.txt", tmp_path / "out", *options(tiny_bundle))
    assert dataset.dataset(tmp_path / "out" / "data").to_table()["id"].to_pylist() == names[:2]
    [missing] = dataset.dataset(tmp_path / "out" / "quarantine").to_table().to_pylist()
    assert (missing["id"], missing["reason"]) == (names[2], "not found")


def test_a_store_that_goes_away_costs_no_image(
    source: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    """It ends the export; no image is in quarantine for it."""
    whole, output = tmp_path / "whole", tmp_path / "out"
    arguments = [*options(tiny_bundle, rows=1), "--dense"]
    run(source, whole, *arguments)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)  # of the same store
    server.start()
    host, port = server.get_host_and_port()
    command = [sys.executable, "-m", "serving.cli.main", "export", source, output, *arguments]
    process = subprocess.Popen(
        list(map(str, command)),
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_MAX_ATTEMPTS": "1",
        },
    )
    while process.poll() is None and not list(output.glob("receipts/*.json")):
        time.sleep(0.001)
    server.stop()
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: s3://bucket/in/images/" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    finished = files(output)
    assert 0 < len(list(output.glob("receipts/*.json"))) < COUNT
    assert finished == {name: data for name, data in files(whole).items() if name in finished}
    run(source, output, *arguments)
    assert files(output) == files(whole)


def test_a_store_that_does_not_answer_ends_the_export(
    source: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, and no image is in quarantine for it."""
    output = tmp_path / "out"
    printed = run(source, "s3://nowhere/out", *options(tiny_bundle), code=1)
    assert printed.splitlines()[-1].endswith("the specified bucket does not exist")
    run(source, output, *options(tiny_bundle))
    before = files(output)
    shutil.rmtree(output / "data")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    printed = run(source, output, *options(tiny_bundle), code=1)
    s3fs.S3FileSystem.clear_instance_cache()
    assert printed.startswith("Error: s3://bucket/in/images: Could not connect")
    assert printed.count("\n") == 1
    monkeypatch.undo()
    run(source, output, *options(tiny_bundle))
    assert files(output) == before
