"""Captions by which images are named: written, read back, searched, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bundle.captions import (
    CAPTIONS_FILE,
    KEPT_CONCEPTS,
    CaptionIndex,
    CaptionsError,
    write_captions,
)

CONCEPTS = 40


def codes(rows: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((rows, CONCEPTS)) - 0.5
    return np.maximum(noise, 0).astype(np.float32)


def index(path: Path, texts: list[str], rows: np.ndarray) -> CaptionIndex:
    write_captions(path / CAPTIONS_FILE, texts, rows)
    return CaptionIndex.open(path / CAPTIONS_FILE, CONCEPTS)


def test_the_nearest_are_those_of_the_highest_cosine(tmp_path: Path) -> None:
    rows = codes(200)
    texts = [f"caption {i}" for i in range(200)]
    captions = index(tmp_path, texts, rows)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for query in codes(20, seed=1):
        ids = np.flatnonzero(query)
        found = captions.nearest(ids, query[ids], 5)
        cosines = unit @ (query / np.linalg.norm(query))
        assert [text for text, _ in found] == [texts[i] for i in np.argsort(-cosines)[:5]]
        np.testing.assert_allclose([c for _, c in found], np.sort(cosines)[::-1][:5], atol=2e-3)


def test_only_captions_that_share_a_concept_are_found(tmp_path: Path) -> None:
    rows = np.zeros((3, CONCEPTS), dtype=np.float32)
    rows[0, 0], rows[1, 5], rows[2, 39] = 1, 2, 3
    captions = index(tmp_path, ["first", "fifth", "last"], rows)
    assert captions.nearest(np.array([0, 39]), np.array([1.0, 1.0]), 9) == (
        ("first", pytest.approx(0.5**0.5)),
        ("last", pytest.approx(0.5**0.5)),
    )
    assert captions.nearest(np.array([7]), np.array([1.0]), 9) == ()
    assert captions.nearest(np.array([], dtype=np.int64), np.array([]), 9) == ()
    assert captions.nearest(np.array([0]), np.array([1.0]), 0) == ()


def test_captions_are_distinct_printable_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = codes(6)
    rows[3] = 0
    texts = ["dog", "cat\x1b[31m\n", "dog", "nothing", "", "tree"]
    assert index(tmp_path, texts, rows).texts == ("dog", "cat [31m", "tree")
    monkeypatch.setattr("bundle.captions.MAX_CAPTIONS", 2)
    assert index(tmp_path, texts, rows).texts == ("dog", "tree")
    assert caplog.messages == ["captions: 2 of 3 name images"]
    dense = np.ones((1, CONCEPTS), dtype=np.float32)
    write_captions(tmp_path / "dense", ["dense"], dense)
    assert len(load_file(tmp_path / "dense")["indices"]) == KEPT_CONCEPTS
    with pytest.raises(CaptionsError, match="none has a code"):
        write_captions(tmp_path / "none", ["nothing"], rows[3:4])


DAMAGE = {
    "a missing tensor": ("values", None, "values: must be a vector of float16"),
    "another type": ("indices", np.int64, "indices: must be a vector of uint32"),
    "an id that no concept has": ("indices", lambda x: x + CONCEPTS, "indices: an id outside"),
    "a value that is not finite": ("values", lambda x: x * np.nan, "values: must be finite"),
    "a value of 0": ("values", lambda x: x * 0, "values: must be finite and greater"),
    "offsets that do not increase": ("offsets", lambda x: x * 0, "offsets: must increase"),
    "offsets beyond the end": ("offsets", lambda x: x * 2, "indices, values: their lengths"),
    "control characters": ("texts", lambda x: np.where(x == ord("c"), 27, x), "unprintable"),
    "no UTF-8": ("texts", lambda x: x | 128, "texts: not UTF-8"),
    "fewer captions": ("texts", lambda x: x[:9], "offsets: must be one more"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / CAPTIONS_FILE
    write_captions(path, ["caption 1", "caption 2"], codes(2))
    tensor, change, message = DAMAGE[name]
    tensors = load_file(path)
    if change is None:
        del tensors[tensor]
    elif isinstance(change, type):
        tensors[tensor] = tensors[tensor].astype(change)
    else:
        tensors[tensor] = change(tensors[tensor]).astype(tensors[tensor].dtype)
    save_file(tensors, path)
    with pytest.raises(CaptionsError, match=message):
        CaptionIndex.open(path, CONCEPTS)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / CAPTIONS_FILE).write_bytes(b"captions")
    with pytest.raises(CaptionsError, match="not a safetensors file"):
        CaptionIndex.open(tmp_path / CAPTIONS_FILE, CONCEPTS)
