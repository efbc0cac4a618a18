"""What is held out of a user's own data: the same by every kind of source, and nothing of it is on
the other side, too."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cases.pairs import WRITERS, WrittenPair
from training.loading.pair_data import ALL, HELD_OUT, TRAIN, PairData
from training.loading.sides import image_digest
from training.loading.sources.base import Pair

pytestmark = pytest.mark.kind("K2")


def pattern(number: int) -> Image.Image:
    """An image that looks like no other one."""
    cells = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 64), Image.Resampling.BICUBIC)


def saved(image: Image.Image, form: str) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **({"quality": 90} if form == "JPEG" else {}))
    return data.getvalue()


def pairs() -> list[WrittenPair]:
    """Each image twice: as PNG, and smaller as JPEG. Every second caption is that of the image
    before."""
    written = []
    for n in range(120):
        image, caption = pattern(n), f"thing {n - n % 2}"
        written.append(WrittenPair(name=f"{n}", image=saved(image, "PNG"), caption=caption))
        small = saved(image.resize((48, 48)), "JPEG")
        other = WrittenPair(name=f"{n}small", image=small, ending=".jpg", caption=f"small {n}")
        written.append(other)
    return written


@pytest.fixture(scope="module")
def expected() -> frozenset[int]:
    """Digests of the held-out images: the side of a group is that of its smallest digest."""
    written = pairs()
    held_out = set()
    for start in range(0, len(written), 4):  # two images, each in two forms
        digests = [image_digest(pair.image or b"") for pair in written[start : start + 4]]
        held_out |= set(digests) if min(digests) % 20 == 0 else set()
    return frozenset(held_out)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_holds_out_the_same_groups(
    kind: str, tmp_path: Path, expected: frozenset[int]
) -> None:
    WRITERS[kind].write(tmp_path, pairs() if len(kind) % 2 else pairs()[::-1])
    data = PairData(tmp_path)
    sides = {
        split: {image_digest(pair.image) for pair in data.split(split).read_all()}  # type: ignore[union-attr]
        for split in (TRAIN, HELD_OUT, ALL)
    }
    assert sides[TRAIN] | sides[HELD_OUT] == sides[ALL]
    assert not sides[TRAIN] & sides[HELD_OUT]
    assert data.split(HELD_OUT).pairs == len(sides[HELD_OUT])
    counts = data.sides.counts
    assert counts is not None
    assert (counts.like_another, counts.held_out) == (240, len(sides[HELD_OUT]))
    if kind == "classes":  # whose captions are labels
        assert counts.all_labels
        assert sides[HELD_OUT] != expected
    else:
        assert counts.equal_captions == 120
        assert sides[HELD_OUT] == expected
        assert 4 <= len(expected) <= 30


def test_the_rule_of_images_alone_reads_nothing_beforehand(tmp_path: Path) -> None:
    WRITERS["files"].write(tmp_path, pairs())
    data = PairData(tmp_path, held_out="image")
    assert data.sides.counts is None
    for pair in data.split(HELD_OUT).read_all():
        assert isinstance(pair, Pair)
        assert image_digest(pair.image) % 20 == 0
