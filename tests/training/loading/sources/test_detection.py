"""Which kind of source some files are taken for."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.data_recipe import DataError
from training.loading.sources.detection import detect_kind


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("name", ["pairs.tsv", "images/pairs.csv", "captions.jsonl"])
def test_a_list_beside_images_is_not_taken_for_classes(name: str, tmp_path: Path) -> None:
    folder = files(tmp_path, "images/a.png", "images/b.png")
    assert detect_kind(folder) == "classes"
    with pytest.raises(DataError, match=rf"holds images and {name}; name that file"):
        detect_kind(files(folder, name))
    assert detect_kind(folder / name) == "list"


def test_captions_beside_images_count_more_than_a_list(tmp_path: Path) -> None:
    assert detect_kind(files(tmp_path, "a.png", "a.txt", "statistics.csv")) == "files"
