"""The cache of codes: copies with valid ids, bounded in bytes."""

from __future__ import annotations

import numpy as np

from serving.chat.code_cache import CachedCodes, CodeCache
from serving.engines.outputs import Patches
from tests.serving.chat.codes import codes_of


def test_codes_are_copies_with_valid_ids() -> None:
    whole = np.ones((4, 2, 3), dtype=np.float32)
    whole[1, 0, 2] = 0
    ids = np.full((4, 2, 3), 7, dtype=np.int32)
    ids[1, 0, 2] = 2**30  # an unused slot may hold anything
    codes = CachedCodes.from_patches(Patches(indices=ids[1], values=whole[1], complete=True))
    assert codes.indices.tolist() == [[7, 7, 0], [7, 7, 7]]
    assert codes.indices.dtype == np.int64
    assert not np.shares_memory(codes.values, whole)


def test_the_cache_is_bounded_in_bytes() -> None:
    size = codes_of(10).size
    cache = CodeCache(max_bytes=3 * (size + 1))
    for name in b"abc":
        cache.put(bytes([name]), codes_of(10, seed=name))
    assert cache.get(b"a") is not None  # asked for: it stays
    cache.put(b"d", codes_of(10))
    assert cache.get(b"b") is None
    assert all(cache.get(key) is not None for key in (b"a", b"c", b"d"))
    cache.put(b"d", codes_of(10))  # again: it counts once
    assert cache.get(b"a") is not None
    cache.put(b"e", codes_of(40))  # more than all: nothing is kept
    assert [cache.get(name) for name in (b"a", b"c", b"d", b"e")] == [None] * 4
