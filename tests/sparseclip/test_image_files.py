"""Images in any form become the bytes of a file, and what cannot be read is one sentence."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from sparseclip import Client
from sparseclip._image_files import read_image
from sparseclip.errors import ItemError
from tests.sparseclip.scripted import Scripted
from tests.sparseclip.test_convert import INFO

LIMIT = INFO.limits.image_bytes
"""1,000 bytes."""


class Reader:
    """A file object whose `read` gives what a test says."""

    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)
        self.sizes: list[int] = []

    def read(self, size: int, /) -> Any:
        self.sizes.append(size)
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Exception):
            raise part
        return part


def refusal(image: object) -> str:
    with pytest.raises(ItemError) as caught:
        read_image(image, INFO)
    assert caught.value.status.code is grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value)


def test_bytes_in_any_form_are_sent_as_they_are(tmp_path: Path) -> None:
    data = b"\x89PNG and so on"
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        forms = [data, bytearray(data), memoryview(data), io.BytesIO(data), file, path, str(path)]
        assert [read_image(form, INFO) for form in forms] == [data] * 7


def test_a_file_is_read_from_its_position_and_in_pieces() -> None:
    file = io.BytesIO(b"abcdef")
    file.seek(3)
    assert read_image(file, INFO) == b"def"
    assert "must not be empty" in refusal(file)
    assert read_image(Reader(b"ab", b"c"), INFO) == b"abc"


def test_no_more_is_read_than_the_limit() -> None:
    endless = Reader(*[b"x" * 100] * 1000)
    assert "at most 1000 are accepted" in refusal(endless)
    assert len(endless.parts) > 900
    assert max(endless.sizes) <= LIMIT + 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(2**31)
    began = time.monotonic()
    assert refusal(path) == f"image: {2**31} bytes, at most 1000 are accepted"
    assert time.monotonic() - began < 0.5


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(tmp_path / "pipe.jpg") == "image: not a regular file"
    assert refusal("/dev/zero") == "image: not a regular file"
    assert refusal(tmp_path) == "image: a folder: give the path of a file"
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "pipe.jpg")
    assert refusal(link) == "image: not a regular file"
    with pytest.raises(ItemError, match="image: no such file") as caught:
        read_image(tmp_path / "missing", INFO)
    assert caught.value.status.code is grpc.StatusCode.NOT_FOUND
    assert refusal("a\0b") == "image: not a path"


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (None, "must not be empty"),
        (math.nan, "must not be empty"),
        (b"", "must not be empty"),
        (7, "not an image"),
        (object(), "not an image"),
        (["a.png"], "not an image"),
        (io.StringIO("a"), "opened as text"),
        (Reader("text"), "opened as text"),
        (Reader(OSError("/secret/path")), "image: cannot be read"),
        ("https://example.org/a.png", "not fetched"),
        (bytes(LIMIT + 1), "1001 bytes, at most 1000"),
        (np.zeros((2, 2), np.float32), "an array of float32, 2 x 2: must be uint8"),
        (np.zeros((3, 8, 8), np.uint8), "an array of uint8, 3 x 8 x 8: must be uint8"),
        (np.zeros((1, 2, 2, 3), np.uint8), "must be uint8"),
        (np.zeros((0, 2, 3), np.uint8), "must not be empty"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_what_is_no_image_is_one_sentence(image: object, problem: str) -> None:
    message = refusal(image)
    assert problem in message
    assert "secret" not in message


def test_a_truncated_pil_image_fails_alone() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "JPEG")
    cut = buffer.getvalue()[:-200]
    loaded = Image.open(io.BytesIO(cut))
    assert read_image(loaded, replace(INFO, limits=replace(INFO.limits, image_bytes=2**20))) == cut
    loaded.seek(0)
    rotated = Image.open(io.BytesIO(cut))
    rotated.format = "GIF"  # now its pixels must be read, and they are not all there
    assert refusal(rotated) == "image: cannot be read"


def test_a_list_keeps_every_item_whatever_is_in_it(client: Client, script: Scripted) -> None:
    texts: list[Any] = ["fine", None, math.nan, 7]

    def images() -> list[Any]:
        return [b"abc", None, Image.new("F", (2, 2)), np.zeros((2, 2)), io.BytesIO(b"x")]

    for answers in (client.embed(images(), texts), list(client.embed_stream(images()))):
        expected = ["OK", *["INVALID_ARGUMENT"] * 3, "OK"]
        assert [answer.status.code.name for answer in answers[:5]] == expected
    answers = client.embed([], texts)
    assert [answer.source for answer in answers] == ["fine", "text[1]", "text[2]", "text[3]"]
    assert [answer.status.message for answer in answers[1:]] == [
        "text: must not be empty",
        "text: must not be empty",
        "text: must be a string",
    ]
    batch = np.zeros((3, 2, 2, 1), np.uint8)
    assert [answer.ok for answer in client.embed(batch)] == [True] * 3  # type: ignore[arg-type]


@pytest.mark.parametrize("lone", [b"a", bytearray(b"a"), Path("a"), io.BytesIO(b"a"), "a"])
def test_a_lone_image_is_no_list(client: Client, lone: Any) -> None:
    with pytest.raises(TypeError, match="lists"):
        client.embed(lone)
    with pytest.raises(TypeError, match="list"):
        client.chat("What?", lone)


def test_a_lone_array_or_pil_image_is_no_list(client: Client) -> None:
    for lone in (np.zeros((2, 2, 3), np.uint8), Image.new("L", (2, 2))):
        with pytest.raises(TypeError, match="lists"):
            client.embed(lone)  # type: ignore[arg-type]


def test_pillow_is_not_imported_for_other_images() -> None:
    program = """
import sys, io, numpy
from sparseclip._image_files import read_image
from sparseclip.model_info import ModelInfo, ServerLimits
from sparseclip.results import ModelVersion
limits = ServerLimits(**dict.fromkeys(ServerLimits.__dataclass_fields__, 10**6))
shapes = dict.fromkeys(["concepts", "dense_dim", "text_dense_dim", "patch_rows"], 1)
shapes |= dict.fromkeys(["patch_columns", "context_length", "logit_scale"], 1)
info = ModelInfo(
    model=ModelVersion(name="a", version="1"), image_size=8, limits=limits, framings=("crop",),
    interpolation="bicubic", **shapes,
)
for image in (b"a", io.BytesIO(b"a"), numpy.zeros((8, 9, 3), numpy.uint8), sys.executable):
    try:
        read_image(image, info)
    except ValueError:
        pass
assert "PIL" not in sys.modules
sys.modules["PIL"] = None  # as if it were not installed
assert len(read_image(numpy.zeros((80, 90, 3), numpy.uint8), info)) > 80
"""
    subprocess.run([sys.executable, "-c", program], check=True)
