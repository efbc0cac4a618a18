"""Streams: the same batches when resumed, shared among ranks, bad pairs left out."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image

from training.data.data_recipe import DataError
from training.loading.pair_data import ALL, PairData
from training.loading.pairs import PairBatch
from training.loading.stream import PairStream, stream_batches
from training.loading.tally import PairTally
from training.model.tokenizer import CaptionTokens

SIDE = 8


def tokenize(captions: list[str]) -> CaptionTokens:
    """Says of number 7 that it was cut."""
    return CaptionTokens(torch.tensor([[int(c)] for c in captions]), captions.count("7"))


def _png() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (12, 10)).save(data, "PNG")
    return data.getvalue()


def write_shards(folder: Path, shards: int, pairs: int, bad: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    number = 0
    for i in range(shards):
        with tarfile.open(folder / f"{i:05d}.tar", "w") as tar:
            for _ in range(pairs):
                data = io.BytesIO()
                Image.new("RGB", (12, 10), (number % 256, 0, 0)).save(data, "PNG")
                image = b"no image" if number in bad else data.getvalue()
                for suffix, content in (("png", image), ("txt", str(number).encode())):
                    entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                number += 1


def stream(folder: Path, start: int = 0, rank: int = 0, ranks: int = 1) -> PairStream:
    pairs = PairData(folder).split(ALL)
    return PairStream(
        pairs,
        tokenize,
        size=SIDE,
        batch_size=4,
        seed=1,
        rank=rank,
        ranks=ranks,
        shuffle=6,
        start=start,
        canonical=0.5,
        epoch_pairs=pairs.pairs,
    )


def batches(source: PairStream, number: int, workers: int = 0) -> list[PairBatch]:
    tally = PairTally("data", len(source.pairs.pieces))
    return list(islice(stream_batches(source, workers, tally), number))


def ids(batches: list[PairBatch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.tokens[:, 0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_stream_gives_the_same_batches(tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path, shards=4, pairs=10)
    whole = batches(stream(tmp_path), 15, workers)
    resumed = batches(stream(tmp_path, start=7), 8, workers)
    for a, b in zip(whole[7:], resumed, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.pixels, b.pixels)
    assert whole[0].pixels.shape == (4, 3, SIDE, SIDE)


def test_an_epoch_holds_every_pair_once(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=4, pairs=10)
    seen = ids(batches(stream(tmp_path), 20))
    assert sorted(seen[:40]) == list(range(40))
    assert sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]


@pytest.mark.parametrize("shards", [1, 4])
def test_ranks_share_an_epoch(tmp_path: Path, shards: int) -> None:
    write_shards(tmp_path, shards=shards, pairs=40 // shards)
    parts = [ids(batches(stream(tmp_path, rank=rank, ranks=2), 5)) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(40))


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_pairs_are_counted_named_and_left_out(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_shards(tmp_path, shards=1, pairs=20, bad={3, 11})
    tally = PairTally("data", 1)
    read = list(islice(stream_batches(stream(tmp_path), workers, tally), 6))
    seen = ids(read)
    assert not {3, 11} & set(seen)
    assert len(set(seen)) == 18
    assert tally.good >= 20
    assert tally.bad >= 2
    assert tally.found == tally.good + tally.bad
    assert "bad pair: 00000.tar/000003: unsupported image" in caplog.text
    assert f"{tally.found} pairs read, {tally.good} good" in tally.summary()
    assert tally.cut == seen.count(7) >= 1
    assert tally.summary().endswith(f"{tally.cut} captions cut at the context's end")


@pytest.mark.parametrize("workers", [0, 2])
def test_members_of_no_pair_are_counted_once_each(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """However often their shard is read, and without counting the pairs first."""
    caplog.set_level("INFO")
    write_shards(tmp_path, shards=1, pairs=8)
    with tarfile.open(tmp_path / "00000.tar", "a") as tar:
        for name in ("notes.md", "a.xml", "b.xml"):
            tar.addfile(tarfile.TarInfo(name))
    tally = PairTally("data", 1)
    list(islice(stream_batches(stream(tmp_path), workers, tally), 6))
    said = [line for line in caplog.messages if "no pair" in line]
    assert said == ["00000.tar: members that belong to no pair: .xml: 2, .md: 1"]
    assert ", 3 members that belong to no pair (.xml: 2, .md: 1)" in tally.summary()


@pytest.mark.parametrize("workers", [0, 2])
def test_mostly_bad_data_end_the_run(tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path, shards=1, pairs=400, bad=set(range(300)))
    problem = r"data\.path: \S+: too many bad pairs: \d+ good, \d+ bad \(unsupported image: \d+\)$"
    with pytest.raises(DataError, match=problem):
        batches(stream(tmp_path), 400, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_data_without_a_good_pair_end_the_run(tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path, shards=1, pairs=6, bad=set(range(6)))
    with pytest.raises(DataError, match=r"no good pair: 0 good, 6 bad"):
        batches(stream(tmp_path), 1, workers)


def test_many_damaged_shards_end_the_run(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, pairs=4)
    for i in range(3):
        (tmp_path / f"cut-{i}.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"data: 3 of 4 files are damaged, such as cut-"):
        batches(stream(tmp_path), 8)


def test_fewer_pairs_than_workers(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, pairs=1)
    assert set(ids(batches(stream(tmp_path), 6, workers=2))) == {0}


def test_one_of_the_captions_of_an_image_is_chosen_for_each_view(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, pairs=3)
    path = tmp_path / "00000.tar"
    texts = b'{"caption": ["101", "102", "103"]}'
    with tarfile.open(path, "a") as tar:
        for suffix, content in (("png", _png()), ("json", texts)):
            entry = tarfile.TarInfo(f"9.{suffix}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    first, second = (ids(batches(stream(tmp_path), 30)) for _ in range(2))
    assert first == second
    assert first.count(101) + first.count(102) + first.count(103) == 30
    assert first.count(101) > first.count(102) > 0 < first.count(103) < first.count(101)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no shards, tables, lists or images"):
        stream(tmp_path)
