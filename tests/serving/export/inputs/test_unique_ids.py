"""No two entries have one id."""

from __future__ import annotations

import random

import pytest

from serving.export.inputs import _unique_ids
from serving.export.inputs._unique_ids import UniqueIds


def test_each_id_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unique_ids, "RECENT", 16)
    ids, rng = UniqueIds(), random.Random(0)
    asked = [str(rng.randrange(300)) for _ in range(2000)] + ["1#2", "1#2"]
    given = [ids.claim(id) for id in asked]
    assert len(set(given)) == len(given)
    assert {x for x in given if "#" not in x} == {x for x in asked if "#" not in x}
    assert all(
        new == old or new.startswith(f"{old}#") for new, old in zip(given, asked, strict=True)
    )


def test_the_second_one_is_number_two() -> None:
    ids = UniqueIds()
    assert [ids.claim(id) for id in ("a", "a#2", "a", "a", "b")] == ["a", "a#2", "a#3", "a#4", "b"]
