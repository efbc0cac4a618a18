"""The folder of an export: only what an export made is touched."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.export.command import files, options, run

DRAFT = ".sparseclip-0123456789abcdef.draft"
"""A draft that nobody holds, as a killed worker leaves it."""


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    "name",
    [
        "thesis.draft",
        "data/thesis.draft",
        "notes.txt",
        ".hidden",
        DRAFT,
        "plan/notes.txt",
        f"plan/{DRAFT}",
        ".locks/mine",
        ".drafts/mine",
        "receipts/x",
    ],
)
def test_a_folder_that_is_no_export_is_refused_and_stays(
    name: str, images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "project"
    own = output / name
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    printed = run(images, output, *options(tiny_bundle), code=1)
    is_own_folder = name.startswith(("plan/", ".locks/", ".drafts/"))
    told_name = name if is_own_folder else name.partition("/")[0]
    assert printed == (
        f"Error: {output}: not empty and not an export: it holds {told_name!r}. "
        "Choose a new or an empty folder\n"
    )
    assert everything(output) == {name: b"mine"}


def test_an_output_that_is_its_input_or_a_file_is_refused(
    images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    before = everything(images)
    printed = run(images, images, *options(tiny_bundle), code=1)
    assert "not empty and not an export" in printed
    assert everything(images) == before
    (tmp_path / "file").write_text("mine")
    printed = run(images, tmp_path / "file", *options(tiny_bundle), code=1)
    assert printed == f"Error: {tmp_path / 'file'}: not a folder\n"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "plan").write_text("mine")
    printed = run(images, tmp_path / "folder", *options(tiny_bundle), code=1)
    assert printed == f"Error: {tmp_path / 'folder' / 'plan'}: not a folder\n"
    assert everything(tmp_path) == {"file": b"mine", "folder/plan": b"mine"}


@pytest.mark.parametrize("name", ["images/codes", "images/one/codes", "link/codes"])
def test_an_output_inside_its_input_is_refused_before_anything_is_written(
    name: str, images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(images, tmp_path / "images")
    (tmp_path / "link").symlink_to(source)
    before = sorted(tmp_path.rglob("*"))
    printed = run(source, tmp_path / name, *options(tiny_bundle), code=1)
    assert printed == (
        f"Error: {tmp_path / name}: inside the input {source}. Choose a folder outside of it\n"
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_a_link_in_its_input_leads_to_is_refused(
    images: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """Its files would be listed as the input's."""
    source = shutil.copytree(images, tmp_path / "images")
    (source / "0" / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("elsewhere", "elsewhere/codes"):  # the link leads to nothing yet
        printed = run(source, tmp_path / name, *options(tiny_bundle), code=1)
        assert printed == (
            f"Error: {tmp_path / name}: inside the input {source}, by the link 0/link. "
            "Choose a folder outside of it\n"
        )
        assert list(tmp_path.iterdir()) == [source]


def test_an_empty_folder_and_one_killed_before_its_job_are_taken(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    run(images, empty, *options(tiny_bundle), "--dense")
    assert files(empty) == files(whole)
    begun = tmp_path / "begun"
    shutil.copytree(whole / "plan", begun / "plan")
    for folder, name in ((".locks", "begin"), (".drafts", DRAFT)):
        (begun / folder).mkdir()
        (begun / folder / name).write_bytes(b"half")
    run(images, begun, *options(tiny_bundle), "--dense")
    assert files(begun) == files(whole)


def test_files_that_its_user_puts_into_an_export_stay(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    """Drafts of killed workers go, and nothing else does, whatever its name."""
    output = shutil.copytree(whole, tmp_path / "export")
    (output / ".drafts").mkdir(exist_ok=True)
    (output / ".drafts" / DRAFT).write_bytes(b"half")
    own = ["thesis.draft", "data/thesis.draft", "receipts/.part-000001.json.17.draft", "own/x.txt"]
    own += [f"{folder}{DRAFT}" for folder in ("", "plan/", "receipts/", "data/", "own/")]
    for name in own:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_text("mine")
    (output / "DONE.json").unlink()
    run(images, output, *options(tiny_bundle), "--dense")
    assert files(output) == files(whole) | dict.fromkeys(own, b"mine")
    printed = run("verify", output, code=1)
    assert "data/thesis.draft: no receipt knows it; move it to another folder" in printed


def test_a_worker_that_is_killed_while_it_writes_leaves_one_draft(
    images: Path, tiny_bundle: Path, whole: Path, tmp_path: Path
) -> None:
    """Its name is what `DRAFT` stands for above."""
    output = tmp_path / "killed"
    code = (
        "import os, signal, sys\n"
        "from serving.storage.location import Location\n"
        "output = Location.parse(sys.argv[1]).with_drafts('.drafts')\n"
        "with output.at('plan/part-000000.parquet').create() as stream:\n"
        "    stream.write(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(output)], check=False)
    assert done.returncode == -signal.SIGKILL
    [draft] = (output / ".drafts").iterdir()
    assert len(draft.name) == len(DRAFT)
    assert draft.name.startswith(".sparseclip-")
    run(images, output, *options(tiny_bundle), "--dense")
    assert files(output) == files(whole)
