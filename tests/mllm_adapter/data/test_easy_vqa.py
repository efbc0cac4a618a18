"""The real easy-vqa, where it has been fetched."""

from __future__ import annotations

import pytest

from mllm_adapter.data.easy_vqa import PACKAGE, easy_vqa
from training.data import fetch


@pytest.mark.skipif(
    fetch.cached_archive(PACKAGE, fetch.default_cache()) is None,
    reason="a run with easy-vqa fetches it",
)
def test_easy_vqa_is_as_its_authors_count_it() -> None:
    for part, images, questions in (("train", 4000, 38575), ("test", 1000, 9673)):
        part_data = easy_vqa(part)  # type: ignore[arg-type]
        assert (len(part_data.images), len(part_data.questions)) == (images, questions)
    assert len({turn.answer for _, turn in part_data.questions}) == 13
