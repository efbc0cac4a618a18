"""Which pairs belong together, and on which side they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.loading.likeness import (
    COLOUR_CELLS,
    MAX_BITS_APART,
    MAX_LEVELS_APART,
    Likeness,
    pairs_alike,
)
from training.loading.pair_data import PairData
from training.loading.pair_index import DataStamp, read_records
from training.loading.pair_records import PairRecords, RecordWriter
from training.loading.pairs import PairsConfig, resolve_held_out
from training.loading.sides import Links
from training.trainer.training_recipe import TrainingRecipe


def records(*pairs: tuple[int, int, str]) -> PairRecords:
    """Pairs of a digest, the bits of a hash and captions between bars."""
    writer = RecordWriter()
    for digest, bits, captions in pairs:
        writer.add(digest, Likeness(bits, bytes(COLOUR_CELLS)), captions.split("|"))
    return writer.records()


def held_out(links: Links) -> list[int]:
    """The digests that are held out."""
    sides = links.sides()
    return links.digests[sides.held_out(links.digests)].tolist()


def bits_of(number: int) -> int:
    """A hash that is like no other's."""
    return int(np.random.default_rng(number).integers(1, 2**63))


def test_near_hashes_are_found_as_by_comparing_all() -> None:
    generator = np.random.default_rng(0)
    bits = generator.integers(1, 2**63, 400, dtype=np.uint64)
    for n in range(300):  # copies of others, of which up to six bits are turned
        turned = generator.choice(64, n % 7, replace=False)
        bits[100 + n] = bits[n % 100] ^ np.uint64(sum(1 << int(bit) for bit in turned))
    colours = np.repeat(generator.integers(0, 60, (400, 1), dtype=np.uint8), COLOUR_CELLS, axis=1)
    near = np.bitwise_count(bits[:, None] ^ bits) <= MAX_BITS_APART
    apart = np.abs(colours[:, None].astype(int) - colours).max(axis=2)
    expected = set(zip(*np.where(np.triu(near & (apart <= MAX_LEVELS_APART), 1)), strict=True))
    first, second = pairs_alike(bits, colours)
    assert {(min(p), max(p)) for p in zip(first.tolist(), second.tolist(), strict=True)} == expected
    assert len(expected) > 10


def test_a_group_is_on_the_side_of_its_smallest_digest_in_any_order() -> None:
    near = bits_of(0) ^ 1
    pairs = [
        (20, bits_of(0), "a dog"),  # held out, with one that looks like it
        (33, near, "a hound"),
        (47, bits_of(1), "A  HOUND"),  # and one that has the caption of that
        (60, bits_of(2), "a cat"),  # held out alone
        (7, bits_of(3), "a ship"),  # trained on, with one that is held out by itself
        (80, bits_of(4), "a ship|a boat"),
        (91, bits_of(5), "a tree"),
        (91, bits_of(5), "an oak"),
    ]
    for order in (pairs, pairs[::-1], pairs[3:] + pairs[:3]):
        links = Links.of(records(*order))
        assert held_out(links) == [20, 33, 47, 60]
        counts = links.sides().counts
        assert counts is not None
        assert (counts.pairs, counts.held_out, counts.repeated_images) == (8, 4, 1)
        assert (counts.like_another, counts.equal_captions) == (2, 4)


def test_a_caption_of_many_things_is_a_label() -> None:
    others = [(20 * n + 1, bits_of(n), f"thing {n}|a photo") for n in range(1, 12)]
    links = Links.of(records((20, bits_of(0), "a photo"), *others))
    assert held_out(links) == [20]
    counts = links.counts()
    assert (counts.labels, counts.labelled, counts.all_labels) == (1, 12, False)
    fewer = Links.of(records((20, bits_of(0), "a photo"), *others[:9]))
    assert len(held_out(fewer)) == 10
    labels = [(20 * n + n % 2, bits_of(n), f"class {n % 3}") for n in range(1, 13)]
    links = Links.of(records(*labels))
    assert links.counts().all_labels
    assert len(held_out(links)) == 6


def test_a_large_group_is_trained_on() -> None:
    film = [(20 + n, bits_of(0) ^ (1 << n % 2), f"frame {n}") for n in range(11)]
    links = Links.of(records(*film))
    assert held_out(links) == []
    assert links.sides().counts.large_groups == 1  # type: ignore[union-attr]
    assert len(held_out(Links.of(records(*film[:10])))) == 10


def test_leaks_across_splits_are_counted() -> None:
    pairs = [(1, bits_of(0), "a"), (2, bits_of(1), "b"), (3, bits_of(2), "c"), (4, bits_of(3), "d")]
    other = [(1, bits_of(0), "x"), (5, bits_of(1) ^ 1, "y"), (6, bits_of(6), "C")]
    links = Links.of(records(*pairs, *other))
    own = np.arange(7) < 4
    assert links.shared(own) == {"image": 1, "alike": 2, "caption": 1}
    assert links.shared(~own) == {"image": 1, "alike": 2, "caption": 1}


def test_no_pairs_are_no_groups() -> None:
    links = Links.of(records())
    assert links.sides().counts.pairs == 0  # type: ignore[union-attr]


def test_a_stopped_pass_goes_on_and_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cases.pairs import PNG, WRITERS, WrittenPair

    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("training.loading.pair_index.PART", 3)
    (tmp_path / "own").mkdir()
    for shard in range(4):
        folder = tmp_path / "own" / str(shard)
        written = [WrittenPair(name=f"{n}", image=PNG + bytes(4 * shard + n)) for n in range(4)]
        folder.mkdir()
        WRITERS["webdataset"].write(folder, written)
    source = PairData(tmp_path / "own").split("all").source
    stamp, read = DataStamp.of(tmp_path / "own"), type(source).read
    seen: list[str] = []

    def stopping(self: object, piece: str) -> object:
        seen.append(piece)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(self, piece)  # type: ignore[arg-type]

    monkeypatch.setattr(type(source), "read", stopping)
    with pytest.raises(KeyboardInterrupt):
        read_records(source, stamp, "own")
    resumed = read_records(source, stamp, "own")
    assert seen == [f"{n}/0.tar" for n in (0, 1, 2, 2, 3)]
    again = read_records(source, stamp, "own")
    assert len(seen) == 5
    assert len(resumed.digests) == 16
    assert np.array_equal(resumed.digests, again.digests)
    assert np.array_equal(resumed.caption_pair, np.arange(16))
    (tmp_path / "own" / "0" / "new.txt").write_text("x")
    assert DataStamp.of(tmp_path / "own") != stamp


def test_a_run_keeps_the_rule_that_it_began_with(tmp_path: Path) -> None:
    saved = TrainingRecipe.load("demo").to_dict()
    del saved["data"]["held_out"]
    old = TrainingRecipe.parse_saved(saved).data
    assert old.held_out == "image"
    assert resolve_held_out(PairsConfig(), old) == "image"
    assert resolve_held_out(PairsConfig(held_out="groups"), old) == "groups"
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"x")
    assert resolve_held_out(PairsConfig(path=str(tmp_path)), None) == "groups"
