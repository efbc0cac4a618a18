"""A user's folder of images: what is read of it, and what is said of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bundle.store import Bundle, open_bundle
from serving.engine_plans.gate_inputs import drawn_images, gate_inputs
from serving.engine_plans.user_images import GateInputsError, read_user_images


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def test_every_format_that_is_decoded_is_read(bundle: Bundle, tmp_path: Path) -> None:
    names = ("a.jpg", "b.PNG", "c.webp", "d.gif", "e.bmp", "f.jfif", "sub/g.jpe")
    (tmp_path / "sub").mkdir()
    for name, image in zip(names, drawn_images(), strict=False):
        image.save(tmp_path / name, "jpeg" if name[-3:] in ("fif", "jpe") else None)
    found = read_user_images(bundle, tmp_path, 100)
    assert len(found.pixels) == len(names)
    assert not found.left_out


def test_what_is_no_image_is_counted_and_never_waited_for(bundle: Bundle, tmp_path: Path) -> None:
    drawn_images()[0].save(tmp_path / "good.png")
    drawn_images()[0].save(tmp_path / "scan.tif")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nothing")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(2**31)
    found = read_user_images(bundle, tmp_path, 100)
    assert len(found.pixels) == 1
    assert dict(found.left_out) == {
        "unsupported image: TIFF": 1,
        "not a file": 1,
        "not found": 1,
        "unsupported image": 1,
        "over the limit of 8,388,608 bytes": 1,
        ".txt": 1,
    }
    with pytest.raises(GateInputsError, match=r"1 images can be read .*TIFF.*; 16 are the least"):
        gate_inputs(bundle, tmp_path)
    with pytest.raises(GateInputsError, match="--images: not a folder"):
        gate_inputs(bundle, tmp_path / "good.png")


def test_another_file_takes_the_place_of_a_broken_one(bundle: Bundle, tmp_path: Path) -> None:
    """Those that are wanted are spread over the folder; half of all files are broken."""
    images = drawn_images()[:12]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{2 * number + 1:02}.png")
        (tmp_path / f"{2 * number:02}.png").write_bytes(b"broken")
    found = read_user_images(bundle, tmp_path, 6)
    assert len(found.pixels) == 6
    assert sum(found.left_out.values()) >= 6
    expected = {bundle.preprocessor(image).tobytes() for image in images}
    assert {np.ascontiguousarray(pixels).tobytes() for pixels in found.pixels} <= expected
