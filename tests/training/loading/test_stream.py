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
from training.loading.pairs import PairBatch
from training.loading.stream import PairStream, stream_batches

SIDE = 8


def tokenize(texts: str | list[str]) -> torch.Tensor:
    return torch.tensor([[int(text)] for text in texts])


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
    return PairStream(
        folder,
        tokenize,
        size=SIDE,
        batch_size=4,
        seed=1,
        rank=rank,
        ranks=ranks,
        shuffle=6,
        start=start,
    )


def ids(batches: list[PairBatch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.tokens[:, 0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_stream_gives_the_same_batches(tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path, shards=4, pairs=10)
    whole = list(islice(stream_batches(stream(tmp_path), workers), 15))
    resumed = list(islice(stream_batches(stream(tmp_path, start=7), workers), 8))
    for a, b in zip(whole[7:], resumed, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.pixels, b.pixels)
    assert whole[0].pixels.shape == (4, 3, SIDE, SIDE)


def test_an_epoch_holds_every_pair_once(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=4, pairs=10)
    batches = list(islice(stream_batches(stream(tmp_path), 0), 20))
    seen = ids(batches)
    assert sorted(seen[:40]) == list(range(40))
    assert sorted(seen[40:]) == list(range(40))
    assert seen[:40] != seen[40:]


@pytest.mark.parametrize("shards", [1, 4])
def test_ranks_share_an_epoch(tmp_path: Path, shards: int) -> None:
    write_shards(tmp_path, shards=shards, pairs=40 // shards)
    parts = [
        ids(list(islice(stream_batches(stream(tmp_path, rank=r, ranks=2), 0), 5))) for r in (0, 1)
    ]
    assert sorted(parts[0] + parts[1]) == list(range(40))


def test_bad_pairs_are_counted_and_left_out(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, pairs=20, bad={3, 11})
    source = stream(tmp_path)
    seen = [int(i) for _, tokens in islice(iter(source), 4) for i in tokens[:, 0]]
    assert not {3, 11} & set(seen)
    assert len(set(seen)) == 16
    assert source.unreadable <= 2


def test_mostly_bad_data_ends_the_run(tmp_path: Path) -> None:
    write_shards(tmp_path, shards=1, pairs=40, bad=set(range(30)))
    with pytest.raises(DataError, match=r"data\.path: \d+ of 1\d{3} pairs are unreadable"):
        list(islice(iter(stream(tmp_path)), 400))


def test_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no .tar shards"):
        stream(tmp_path)
