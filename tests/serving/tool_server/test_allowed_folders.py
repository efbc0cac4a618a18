"""Which files a language model may name: those in the allowed folders, wherever links lead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.tool_server import allowed_folders
from serving.tool_server.allowed_folders import AllowedFolders, PathRefusedError
from tests.serving.support.running_server import PNG


@pytest.fixture
def folders(tmp_path: Path) -> AllowedFolders:
    """Two roots beside a secret folder, with links into and out of them."""
    for name in ("one/below", "two", "secret"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("one/a.png", "one/below/b.png", "two/c.PNG", "secret/s.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "one" / "notes.txt").write_text("no image")
    (tmp_path / "one" / "out.png").symlink_to(tmp_path / "secret" / "s.png")
    (tmp_path / "one" / "outside").symlink_to(tmp_path / "secret")
    (tmp_path / "one" / "across.png").symlink_to(tmp_path / "two" / "c.PNG")
    (tmp_path / "oneself").mkdir()
    (tmp_path / "oneself" / "x.png").write_bytes(PNG)
    return AllowedFolders([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize("path", ["a.png", "below/b.png", "below/../a.png", "c.PNG", "across.png"])
def test_what_is_inside_is_read(folders: AllowedFolders, path: str) -> None:
    assert folders.read(path) == PNG
    assert folders.read(str(folders.resolve(path))) == PNG


@pytest.mark.parametrize(
    "path",
    [
        "../secret/s.png",
        "below/../../secret/s.png",
        "out.png",
        "outside/s.png",
        "../oneself/x.png",
        "no.png",
        "below",
        "",
        ".",
        "a.png\0.txt",
        "/etc/passwd",
        "~/a.png",
        "/proc/self/environ",
        "a" * 300 + ".png",
        "a/" * 5000,
        "\ud800.png",
    ],
)
def test_what_is_outside_and_what_is_not_there_are_refused_alike(
    folders: AllowedFolders, tmp_path: Path, path: str
) -> None:
    for name in (path, str(tmp_path / "one" / path) if path.startswith("..") else path):
        with pytest.raises(PathRefusedError) as caught:
            folders.read(name)
        assert str(caught.value) == "no such file in the allowed folders"


@pytest.mark.parametrize("path", ["http://localhost/a.png", "file:///etc/passwd", "HTTPS://x/a"])
def test_addresses_are_never_fetched(folders: AllowedFolders, path: str) -> None:
    with pytest.raises(PathRefusedError, match="addresses are not fetched"):
        folders.read(path)


def test_without_a_root_nothing_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(PathRefusedError, match="--root"):
        AllowedFolders([]).read(str(tmp_path / "a.png"))
    with pytest.raises(PathRefusedError, match="no such folder"):
        AllowedFolders([]).images()


def test_the_images_of_folders_are_those_inside(folders: AllowedFolders, tmp_path: Path) -> None:
    names = [os.path.relpath(file.path, tmp_path) for file in folders.images().files]
    assert names == ["one/a.png", "one/below/b.png", "two/c.PNG"]
    assert [Path(file.path).name for file in folders.images("below").files] == ["b.png"]
    for folder in ("../secret", "outside", "a.png", "http://x", "no", "a" * 300, "\ud800"):
        with pytest.raises(PathRefusedError, match="no such folder"):
            folders.images(folder)


def test_what_is_left_out_of_a_listing_is_counted(folders: AllowedFolders, tmp_path: Path) -> None:
    assert folders.images().left_out == 1  # the link to a picture outside
    one = tmp_path / "one"
    os.mkfifo(one / "pipe.png")
    (one / "nowhere.png").symlink_to(one / "no.png")
    Path(os.fsdecode(os.fsencode(one) + b"/\xff.png")).write_bytes(PNG)
    assert folders.images().left_out == 4
    assert len(folders.images().files) == 3


def test_a_link_to_a_folder_is_not_walked(
    folders: AllowedFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lead to all of this machine."""
    listed: list[str] = []
    scandir = os.scandir

    def recorded(path: str) -> object:
        listed.append(os.path.realpath(path))
        return scandir(path)

    (tmp_path / "one" / "machine").symlink_to("/")
    monkeypatch.setattr(os, "scandir", recorded)
    folders.images()
    assert set(listed) == {str(tmp_path / name) for name in ("one", "one/below", "two")}


def test_a_folder_of_too_many_entries_is_refused(
    folders: AllowedFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowed_folders, "MAX_ENTRIES", 5)
    with pytest.raises(PathRefusedError, match="more than 5 files"):
        folders.images()
    assert len(folders.images("below").files) == 1


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(
    folders: AllowedFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check and the read."""
    real = folders.resolve("a.png")
    real.unlink()
    real.symlink_to(tmp_path / "secret" / "s.png")
    monkeypatch.setattr(folders, "resolve", lambda path: real)
    with pytest.raises(PathRefusedError, match="cannot be read"):
        folders.read("a.png")


def test_pipes_and_large_files_are_refused(
    folders: AllowedFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "one" / "pipe.png")
    with pytest.raises(PathRefusedError, match="no such file"):
        folders.read("pipe.png")
    assert not any(file.path.endswith("pipe.png") for file in folders.images().files)
    monkeypatch.setattr(folders, "resolve", lambda path: tmp_path / "one" / "pipe.png")
    with pytest.raises(PathRefusedError, match="not a file"):
        folders.read("pipe.png")
    monkeypatch.undo()
    monkeypatch.setattr(allowed_folders, "MAX_BYTES", len(PNG) - 1)
    with pytest.raises(PathRefusedError, match="more than"):
        folders.read("a.png")
