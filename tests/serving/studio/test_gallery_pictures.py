"""A gallery is a folder of pictures; the one that ships is small and says whose it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from serving.core.errors import StartupError
from serving.studio.gallery_pictures import MAX_PICTURES, OWN_GALLERY, read_folder


def test_the_shipped_gallery_is_small_and_has_its_licence() -> None:
    folder = read_folder(None)
    assert 50 <= len(folder.pictures) <= 80
    assert sum(file.stat().st_size for file in OWN_GALLERY.iterdir()) <= 600_000
    assert "Apache License" in (OWN_GALLERY / "LICENCE").read_text()
    for picture in folder.pictures:
        with Image.open(picture.path) as image:
            assert max(image.size) <= 128, picture.name


def test_only_pictures_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.png").mkdir()
    assert [picture.name for picture in read_folder(str(tmp_path)).pictures] == ["a.jpg", "b.PNG"]
    assert read_folder(str(tmp_path)).title == tmp_path.name


@pytest.mark.parametrize(("made", "problem"), [(False, "cannot be read"), (True, "no pictures")])
def test_a_folder_without_pictures_is_refused_by_name(
    tmp_path: Path, made: bool, problem: str
) -> None:
    folder = tmp_path / "pictures"
    if made:
        folder.mkdir()
    with pytest.raises(StartupError, match=f"gallery: .*{problem}"):
        read_folder(str(folder))


def test_a_folder_with_too_many_is_refused(tmp_path: Path) -> None:
    for i in range(MAX_PICTURES + 1):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(StartupError, match="gallery: more than 2,000"):
        read_folder(str(tmp_path))


def test_a_picture_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(11))
    [picture] = read_folder(str(tmp_path)).pictures
    assert picture.read(11) == bytes(11)
    with pytest.raises(OSError, match="too large"):
        picture.read(10)


def test_a_name_that_is_not_utf_8_is_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe"))
    folder.mkdir()
    for name in (b"a.png", b"\xff.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"any")
    found = read_folder(str(folder))
    assert [picture.name for picture in found.pictures] == ["a.png"]
    assert found.title.encode()  # a page can hold it
    assert "gallery: 1 names are not UTF-8" in caplog.text
