"""A gallery whose codes come from an export: the same search, and nothing is embedded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from serving.core.errors import StartupError
from serving.server import running
from serving.studio.gallery_export import read_export
from serving.studio.gallery_reader import GalleryReader
from tests.serving.export.command import options, run
from tests.serving.http.support import WebServer, encoded, web
from tests.serving.studio.test_routes import until_ready
from tests.serving.support.running_server import config_for, encoded_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below, and one that no export takes."""
    made = tmp_path / "pictures"
    (made / "below").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "below/c & d.png")):
        (made / name).write_bytes(encoded_image(seed))
    (made / "broken.png").write_bytes(b"no picture")
    return made


@pytest.fixture
def codes(folder: Path, tmp_path: Path, tiny_bundle: Path) -> Path:
    run(folder, tmp_path / "codes", *options(tiny_bundle, rows=2))
    return tmp_path / "codes"


async def hits(opened: WebServer, image: bytes) -> list[dict[str, Any]]:
    """What a search by the concepts of a picture finds."""
    body = {"inputs": [{"image": encoded(image)}], "outputs": {"sparse": True}}
    [result] = (await opened.post("/v1/embed", body))["results"]
    code = zip(result["sparse"]["indices"], result["sparse"]["values"], strict=True)
    terms = [{"concept_id": concept, "weight": value} for concept, value in code]
    found: list[dict[str, Any]] = (
        await opened.post("/studio/api/gallery/search", {"terms": terms[:512]})
    )["hits"]
    return found


async def test_a_search_finds_the_exported_pictures_and_none_was_embedded(
    tiny_bundle: Path, folder: Path, codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(GalleryReader, "_embed")
    settings = {"gallery": str(folder), "gallery_export": str(codes)}
    async with web(tiny_bundle, **settings) as opened:
        described = await until_ready(opened)
        assert described["left_out"] == 0
        names = [picture["name"] for picture in described["pictures"]]
        assert sorted(names) == ["a.png", "b.png", "below/c & d.png"]
        image = (folder / "below" / "c & d.png").read_bytes()
        best, *_ = await hits(opened, image)
        assert (best["picture"], round(best["score"], 3)) == ("below/c & d.png", 1.0)
        for path in ("below%2Fc%20%26%20d.png", "below/c%20%26%20d.png"):
            reply = await opened.client.get(f"/studio/api/gallery/pictures/{path}")
            assert reply.content == image
        for path in ("broken.png", "..%2Fcodes%2Fjob.json", "%2Fetc%2Fpasswd"):
            await opened.get(f"/studio/api/gallery/pictures/{path}", 404)


def test_what_is_gone_or_changed_is_left_out(folder: Path, codes: Path, caplog: Any) -> None:
    (folder / "a.png").unlink()
    (folder / "b.png").write_bytes(encoded_image(7))
    exported = read_export(str(codes), str(folder))
    assert [picture.name for picture in exported.folder.pictures] == ["below/c & d.png"]
    assert set(exported.codes) == {0}
    assert "2 exported pictures" in caplog.text


def test_a_folder_with_other_pictures_is_refused(folder: Path, codes: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(StartupError, match="gallery has none of its pictures"):
        read_export(str(codes), str(folder))


async def test_an_export_of_another_bundle_is_refused(
    chat_bundle: Path, folder: Path, codes: Path
) -> None:
    settings = {"gallery": str(folder), "gallery_export": str(codes), "http_port": 0}
    with pytest.raises(StartupError, match="gallery_export: made by tiny/1, and .* tiny/2"):
        async with running(config_for(chat_bundle, chat="off", **settings)):
            pass


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--framing", "pad"), "made with --framing pad"),
        (("--no-sparse", "--dense"), "holds no codes"),
    ],
)
def test_an_export_that_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, tiny_bundle: Path, more: tuple[str, ...], problem: str
) -> None:
    run(folder, tmp_path / "other", *options(tiny_bundle), *more)
    with pytest.raises(StartupError, match=f"gallery_export: {problem}"):
        read_export(str(tmp_path / "other"), str(folder))


def test_what_is_no_export_is_refused(folder: Path, tiny_bundle: Path) -> None:
    with pytest.raises(StartupError, match="gallery_export: .*not an export"):
        read_export(str(folder), str(folder))
    with pytest.raises(StartupError, match="gallery_export: needs gallery"):
        config_for(tiny_bundle, gallery_export="codes")
