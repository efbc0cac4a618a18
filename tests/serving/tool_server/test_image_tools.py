"""What the tools answer, over a real server and a real database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.in_process import local_server
from serving.index.query import QueryError
from serving.tool_server import folder_search
from serving.tool_server.allowed_folders import AllowedFolders, PathRefusedError
from serving.tool_server.image_tools import ImageTools, where
from sparseclip import Client
from sparseclip.errors import ItemStatus
from tests.serving.support.running_server import encoded_image
from tests.support.paths import ROOT

DRAWINGS = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def demo() -> Iterator[Client]:
    with local_server(ROOT / "models" / "demo") as address, Client(address) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DRAWINGS, tmp_path / "images"))


def tools_of(client: Client, folder: Path) -> ImageTools:
    return ImageTools(client, AllowedFolders([folder]), None)


def test_images_are_found_by_what_they_show(demo: Client, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    tools = tools_of(demo, folder)
    for name in ("cat", "dog", "sailboat"):
        found = tools.search_images(f"a {name}", top=2)
        assert Path(found.images[0].path).name == f"{name}.png"
        assert 0.3 < found.images[0].score <= 1
        assert found.searched == "3 images, 1 could not be read"
    assert "boat" in found.images[0].shared_concepts


def test_codes_are_kept_until_a_file_changes(demo: Client, folder: Path) -> None:
    tools = tools_of(demo, folder)
    calls: list[int] = []
    embed = demo.embed

    def counted(images: object = (), *rest: object, **options: object) -> object:
        calls.append(len(images))  # type: ignore[arg-type]
        return embed(images, *rest, **options)  # type: ignore[arg-type]

    demo.embed = counted  # type: ignore[method-assign,assignment]
    try:
        tools.search_images("a cat")
        tools.search_images("a dog")
        assert calls == [0, 3, 0]
        shutil.copy(folder / "dog.png", folder / "cat.png")
        found = tools.search_images("a dog")
        assert calls == [0, 3, 0, 0, 1]
        assert {Path(image.path).name for image in found.images[:2]} == {"cat.png", "dog.png"}
    finally:
        demo.embed = embed  # type: ignore[method-assign]


def test_an_image_that_failed_for_a_while_is_tried_again(
    demo: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tools_of(demo, folder)
    embed = demo.embed

    def busy(images: Any = (), *rest: Any, **options: Any) -> Any:
        busy_now = ItemStatus(code=grpc.StatusCode.RESOURCE_EXHAUSTED, message="busy")
        answers = embed(images, *rest, **options)
        return [replace(answer, status=busy_now) if images else answer for answer in answers]

    monkeypatch.setattr(demo, "embed", busy)
    assert tools.search_images("a cat").searched == "0 images, 3 could not be read"
    monkeypatch.undo()
    assert tools.search_images("a cat").searched == "3 images"


def test_images_are_read_together_up_to_a_number_of_bytes(
    demo: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_search, "_BYTES_AT_ONCE", 1)
    groups: list[int] = []
    embed = demo.embed

    def counted(images: Any = (), *rest: Any, **options: Any) -> Any:
        groups.append(len(images))
        return embed(images, *rest, **options)

    monkeypatch.setattr(demo, "embed", counted)
    assert tools_of(demo, folder).search_images("a cat").searched == "3 images"
    assert groups == [0, 1, 1, 1]


def test_too_many_images_need_a_database(
    demo: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_search, "MAX_IMAGES", 2)
    (folder / "below").mkdir()
    shutil.move(folder / "cat.png", folder / "below" / "cat.png")
    tools = tools_of(demo, folder)
    with pytest.raises(PathRefusedError, match="3 images, and at most 2"):
        tools.search_images("a cat")
    assert len(tools.search_images("a cat", folder="below").images) == 1


def test_an_image_is_explained_by_concepts_and_places(demo: Client, folder: Path) -> None:
    report = tools_of(demo, folder).explain_image("sailboat.png", top=3)
    assert report.concepts[0].name == "boat"
    assert [len(row) for row in report.concepts[0].map] == [7] * 7
    assert report.concepts[0].where.split()[0] in ("top", "middle", "bottom")
    assert len(report.nearest_captions) == 3


@pytest.mark.parametrize(
    ("cell", "words"),
    [((0, 0), "top left"), ((3, 3), "middle centre"), ((6, 0), "bottom left")],
)
def test_a_place_has_words(cell: tuple[int, int], words: str) -> None:
    values = np.zeros((7, 7), dtype=np.float32)
    assert where(values) == "nowhere"
    values[cell] = 1
    assert where(values) == words


def test_concepts_are_found_by_words(demo: Client, folder: Path) -> None:
    found = tools_of(demo, folder).search_concepts("sailboat", top=2)
    assert len(found.concepts) == 2
    assert found.concepts[0].name == "boat"
    assert found.concepts[0].is_its_name


def test_two_images_are_compared(demo: Client, folder: Path) -> None:
    shutil.copy(folder / "cat.png", folder / "same.png")
    tools = tools_of(demo, folder)
    same = tools.compare_images("cat.png", "same.png")
    assert same.similarity == pytest.approx(1.0, abs=1e-3)
    assert (same.only_first, same.only_second) == ([], [])
    other = tools.compare_images("cat.png", "dog.png", top=2)
    assert other.similarity < 0.5
    assert "cat" in other.only_first
    assert all(entry.first > 0 and entry.second > 0 for entry in other.shared)
    assert len(other.only_second) <= 2


@pytest.mark.parametrize("top", [0, 51])
def test_a_number_of_results_has_bounds(demo: Client, folder: Path, top: int) -> None:
    with pytest.raises(QueryError, match="top: must be from 1 to 50"):
        tools_of(demo, folder).search_images("a cat", top=top)


def test_a_query_that_nothing_answers_is_refused(demo: Client, folder: Path) -> None:
    with pytest.raises(QueryError, match="query: must not be empty"):
        tools_of(demo, folder).search_images("")


def test_a_broken_image_is_named(demo: Client, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(QueryError, match=r"broken\.png: "):
        tools_of(demo, folder).compare_images("cat.png", "broken.png")


def test_a_dense_model_searches_and_compares(dense_bundle: Path, tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(encoded_image(seed))
    with local_server(dense_bundle) as address, Client(address) as client:
        tools = tools_of(client, tmp_path)
        assert tools.search_images("a dog").searched == "3 images"
        comparison = tools.compare_images("0.png", "0.png")
        assert comparison.similarity == pytest.approx(1.0, abs=1e-3)
        assert comparison.shared == []
