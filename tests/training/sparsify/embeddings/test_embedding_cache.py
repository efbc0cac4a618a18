"""Embeddings on disk: cut to what counts, computed once, and again for other data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bundle.image import ImageError
from tests.support.paths import ICONS, ROOT
from training.data.data_recipe import DataError
from training.loading.pair_data import PairData
from training.sparsify.embeddings.embedding_cache import EmbeddedSplit, EmbeddingCache
from training.sparsify.embeddings.embedding_file import EmbeddingFile
from training.sparsify.embeddings.head_data import HeadData


class CountingEncoder:
    """Embeds an image by its bytes, and counts."""

    name, digest, width, cut = "counting/1", "c0ffee" * 8, 4, 0

    def __init__(self, refuse: bool = False) -> None:
        self.read = self.embedded = 0
        self.refuse = refuse

    def pixels(self, encoded: bytes) -> NDArray[np.float32]:
        self.read += 1
        if self.refuse:
            raise ImageError("image: refused")
        return np.frombuffer(encoded[-4:], dtype=np.uint8).astype(np.float32)

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.embedded += len(pixels)
        return pixels / np.linalg.norm(pixels, axis=1, keepdims=True).clip(1)

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += len(texts)
        return np.array([[len(text), 1, 0, 0] for text in texts], dtype=np.float32)


def test_what_a_killed_process_wrote_too_much_is_cut_off(tmp_path: Path) -> None:
    file = EmbeddingFile(tmp_path, 2)
    file.append(np.array([[1, 0], [0, 1]]), ["a", "b"], found=3)
    with (
        (tmp_path / "vectors.f16").open("ab") as vectors,
        (tmp_path / "rows.jsonl").open("ab") as lines,
    ):
        vectors.write(b"\x01\x02")
        lines.write(b'"half a li')
    again = EmbeddingFile(tmp_path, 2)
    assert (again.rows, again.lines(), again.state["found"]) == (2, ["a", "b"], 3)
    again.append(np.array([[0.5, 0.5]]), ["c"])
    last = EmbeddingFile(tmp_path, 2)
    assert last.lines() == ["a", "b", "c"]
    np.testing.assert_array_equal(last.vectors(), [[1, 0], [0, 1], [0.5, 0.5]])


def test_a_split_is_embedded_once_and_again_when_its_data_change(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(ICONS, data)
    encoder = CountingEncoder()
    first = EmbeddingCache(encoder, tmp_path / "cache").split(PairData(data), "train")
    assert encoder.embedded == len(first.metas) == len(first.vectors) > 30
    assert all(meta["captions"] and meta["key"] for meta in first.metas)
    again = EmbeddingCache(encoder, tmp_path / "cache").split(PairData(data), "train")
    assert encoder.embedded == len(first.metas)
    np.testing.assert_array_equal(first.vectors, again.vectors)
    (data / "more.txt").write_text("")
    EmbeddingCache(encoder, tmp_path / "cache").split(PairData(data), "train")
    assert encoder.embedded == 2 * len(first.metas)


def test_an_embedding_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.sparsify.embeddings.embedding_cache.PART", 10)
    whole = EmbeddingCache(CountingEncoder(), tmp_path / "whole").split(PairData(ICONS), "train")
    encoder = CountingEncoder()
    images = encoder.images

    def stopping(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if encoder.embedded >= 20:
            raise KeyboardInterrupt
        return images(pixels)

    monkeypatch.setattr(encoder, "images", stopping)
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(encoder, tmp_path / "cache").split(PairData(ICONS), "train")
    rest = CountingEncoder()
    resumed = EmbeddingCache(rest, tmp_path / "cache").split(PairData(ICONS), "train")
    assert rest.embedded == len(whole.metas) - 20
    assert list(resumed.metas) == list(whole.metas)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)


def test_texts_are_embedded_once(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    cache = EmbeddingCache(encoder, tmp_path)
    np.testing.assert_array_equal(cache.texts(["aa", "b", "aa"])[:, 0], [2, 1, 2])
    np.testing.assert_array_equal(cache.texts(["b", "ccc"])[:, 0], [1, 3])
    assert encoder.embedded == 3


def test_data_without_a_good_image_are_refused(tmp_path: Path) -> None:
    cache = EmbeddingCache(CountingEncoder(refuse=True), tmp_path)
    with pytest.raises(DataError, match="no good pair of train"):
        cache.split(PairData(ICONS), "train")


def test_a_held_out_part_without_a_pair_says_what_to_do(tmp_path: Path) -> None:
    data = tmp_path / "own"
    data.mkdir()
    shutil.copy(ROOT / "docs/images/cat.png", data)
    (data / "cat.txt").write_text("a cat")
    (data / "gone").symlink_to("nowhere")  # is no pair, and no error
    cache = EmbeddingCache(CountingEncoder(), tmp_path / "cache")
    trained = cache.split(PairData(data), "train")
    assert [meta["captions"] for meta in trained.metas] == [["a cat"]]
    with pytest.raises(DataError, match="own holds no good pair of held_out: .*--split all trains"):
        cache.split(PairData(data), "held_out")


@pytest.mark.parametrize(
    ("captions", "vocabulary", "problem"),
    [
        ([["a"]], ["a", "b"], "one good pair of train is too little"),
        ([["a"], ["a"]], ["a", "b"], "all captions are equal"),
        ([[], []], ["a"], "one text is too little"),
    ],
)
def test_nothing_to_tell_apart_is_refused(
    captions: list[list[str]], vocabulary: list[str], problem: str
) -> None:
    vectors = np.eye(len(captions), 4, dtype=np.float16)
    metas = [{"captions": own} for own in captions]
    split = EmbeddedSplit(name="train", vectors=vectors, metas=metas)
    with pytest.raises(DataError, match=problem):
        HeadData.of(split, {"a": 0, "b": 1}, torch.eye(2, 4), vocabulary)
