"""Every image case through every door: the same code, the same refusal, the same coverage."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.in_process import local_server
from sparseclip import Client
from tests.cases.door_contract import Answers, DoorAnswer, OpenDoors
from tests.cases.doors import BYTES_DOORS, IMAGE_DOORS, LABELS, WITHOUT_COVERAGE, cosine, scores


@dataclass(frozen=True, kw_only=True)
class DoorCase:
    """The bytes of an image file, and what becomes of it through every door."""

    name: str
    kind: str
    make: Callable[[], bytes]
    refused: str = ""
    """Part of the reason; empty for an image that is answered."""
    same_as: str = ""
    """A case that has the same code."""
    coverage: tuple[tuple[str, Any], ...] = ()
    """Fields of the coverage that the doors must report."""


def slope() -> Image.Image:
    """A colour slope with a mark in one corner, so that every turn of it is another image."""
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    pixels = np.stack([across, down, 255 - across], axis=2).astype(np.uint8)
    pixels[4:24, 4:24] = (250, 240, 20)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright image into the pixels of a file with this orientation."""


def turned(orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = slope()
    stored = image if orientation == 1 else image.transpose(TURNS[orientation])
    return encoded(stored, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def turned_by_xmp() -> bytes:
    xmp = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""
    return encoded(slope().transpose(TURNS[6]), "JPEG", quality=95, xmp=xmp)


def icon() -> bytes:
    """White on transparent."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = 255
    pixels[16:48, 24:40, 3] = 255
    return encoded(Image.fromarray(pixels))


def wide() -> bytes:
    pixels = np.full((32, 128, 3), 255, np.uint8)
    pixels[8:24, 4:20] = (200, 30, 30)
    return encoded(Image.fromarray(pixels))


def moving() -> bytes:
    frames = [slope(), slope().transpose(Image.Transpose.ROTATE_180)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


def photo_12_megapixels() -> bytes:
    return encoded(slope().resize((4000, 3000)), "JPEG", quality=60)


REFUSED = "unsupported image"
CASES = (
    DoorCase(name="png", kind="K7", make=lambda: encoded(slope())),
    DoorCase(name="png turned not", kind="K7", make=lambda: turned(1, "PNG"), same_as="png"),
    *(
        DoorCase(name=f"{kind} turned {n}", kind="K7", make=functools.partial(turned, n, kind),
                 same_as="png" if kind == "PNG" else "JPEG turned 1")
        for kind in ("PNG", "JPEG")
        for n in range(1 if kind == "JPEG" else 2, 9)
    ),
    DoorCase(name="turned by XMP", kind="K7", make=turned_by_xmp, same_as="JPEG turned 1"),
    DoorCase(name="palette", kind="K7", make=lambda: encoded(slope().convert("P"))),
    DoorCase(name="grey", kind="K7", make=lambda: encoded(slope().convert("L"))),
    DoorCase(name="two colours", kind="K7", make=lambda: encoded(slope().convert("1"))),
    DoorCase(name="CMYK", kind="K7", make=lambda: encoded(slope().convert("CMYK"), "JPEG")),
    DoorCase(name="BMP", kind="K7", make=lambda: encoded(slope(), "BMP"), same_as="png"),
    DoorCase(name="GIF", kind="K7", make=lambda: encoded(slope(), "GIF"), same_as="palette"),
    DoorCase(name="no end of PNG", kind="K7", make=lambda: encoded(slope())[:-12], same_as="png"),
    DoorCase(name="12 megapixels", kind="K4", make=photo_12_megapixels),
    DoorCase(
        name="grey of 16 bits",
        kind="K7",
        make=lambda: encoded(Image.fromarray(np.asarray(slope().convert("L")) * np.uint16(257))),
        same_as="grey",
    ),
    DoorCase(name="white on transparent", kind="K5", make=icon,
             coverage=(("frames", 1), ("ground", "#404040"))),
    DoorCase(
        name="wide", kind="K5", make=wide, coverage=(("image_share", 0.25), ("framing", "crop"))
    ),
    DoorCase(name="moving", kind="K5", make=moving, coverage=(("frames", 2),)),
    DoorCase(name="empty", kind="K6", make=lambda: b"", refused="must not be empty"),
    DoorCase(name="a page", kind="K3", make=lambda: b"<html>", refused=REFUSED),
    DoorCase(name="cut", kind="K3", make=lambda: encoded(slope(), "JPEG")[:600],
             refused="truncated or corrupt"),
    DoorCase(name="too large", kind="K4", make=lambda: b"\xff\xd8" + bytes(8 * 2**20),
             refused="8388608"),
)  # fmt: skip


@pytest.fixture(scope="module")
def doors(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoors]:
    with local_server(chat_bundle) as address, Client(address) as client:
        yield OpenDoors(
            address=address,
            client=client,
            folder=tmp_path_factory.mktemp("doors"),
            classifier=client.classifier(LABELS),
            bundle=chat_bundle,
        )


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [case.make() for case in CASES]


@pytest.fixture(scope="module")
def answers(doors: OpenDoors, images: list[bytes]) -> Callable[[str], Answers]:
    """All answers of a door, asked for once."""
    return functools.cache(lambda name: IMAGE_DOORS[name](doors, images))


@pytest.mark.parametrize("door", IMAGE_DOORS)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=pytest.mark.kind(case.kind)) for case in CASES]
)
def test_an_image_through_every_door(
    doors: OpenDoors, answers: Callable[[str], Answers], door: str, case: DoorCase
) -> None:
    position = CASES.index(case)
    answer = answers(door)[position]
    if answer is None:
        assert door in ("PIL", "PIL after a look", "array")
        assert case.refused
        return
    if case.refused and door in BYTES_DOORS:
        assert answer.error.startswith("INVALID_ARGUMENT: ")
        assert case.refused in answer.error
        return
    if case.refused:  # Pillow reads a file that is cut, up to where it is cut
        assert answer.error.startswith("INVALID_ARGUMENT: image: ")
        return
    assert not answer.error
    original = answers("bytes")[position]
    assert original is not None
    assert _likeness(doors, door, answer, original) >= 0.99
    if door in ("path", "bytearray", "memoryview", "BytesIO", "file", "PIL", "gRPC", "stream"):
        assert answer.values.keys() == original.values.keys()
        for concept, value in answer.values.items():
            assert value == pytest.approx(original.values[concept], abs=2e-6)
    if case.same_as:
        other = answers("bytes")[[entry.name for entry in CASES].index(case.same_as)]
        assert other is not None
        assert _likeness(doors, door, answer, other) >= 0.99
    if door in BYTES_DOORS - WITHOUT_COVERAGE:
        for name, value in case.coverage:
            assert getattr(answer.coverage, name) == value, name


def _likeness(doors: OpenDoors, door: str, answer: DoorAnswer, original: DoorAnswer) -> float:
    if door != "classify":
        return cosine(answer.values, original.values)
    return cosine(answer.values, scores(doors, original, doors.classifier.model))


@pytest.mark.kind("K7")
def test_images_that_differ_have_other_codes(answers: Callable[[str], Answers]) -> None:
    upright, grey = (answers("bytes")[[c.name for c in CASES].index(n)] for n in ("png", "grey"))
    assert upright is not None
    assert grey is not None
    assert cosine(upright.values, grey.values) < 0.99
