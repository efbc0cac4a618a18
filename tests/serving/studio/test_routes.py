"""The studio's routes: a page that anybody gets, and a gallery for those that the server knows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from serving.studio.page_files import FOLDER
from tests.serving.http.support import WebServer, encoded, web
from tests.serving.support.certificates import ALICE, write_tokens
from tests.serving.support.running_server import encoded_image

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gallery")
    for seed, name in enumerate(("b.png", "a.png", HOSTILE, "ü & %2e%2e.png")):
        (made / name).write_bytes(encoded_image(seed))
    (made / "broken.png").write_bytes(b"no picture")
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tiny_bundle: Path, folder: Path) -> AsyncIterator[WebServer]:
    async with web(tiny_bundle, gallery=str(folder)) as opened:
        await until_ready(opened)
        yield opened


async def until_ready(opened: WebServer) -> dict[str, Any]:
    for _ in range(200):
        described: dict[str, Any] = await opened.get("/studio/api/gallery")
        if described["ready"]:
            return described
        await asyncio.sleep(0.05)
    raise AssertionError(described)


async def test_the_root_leads_to_the_page(studio: WebServer) -> None:
    for path in ("/", "/studio"):
        reply = await studio.client.get(path)
        assert (reply.status_code, reply.headers["location"]) == (307, "/studio/")
    page = await studio.client.get("/studio/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src" not in page.headers["content-security-policy"]
    assert "default-src 'self'" in page.headers["content-security-policy"]


async def test_every_file_that_the_page_names_is_served(studio: WebServer) -> None:
    page = (await studio.client.get("/studio/")).text
    named = set(re.findall(r'(?:src|href)="([a-z][^"#:]+)"', page))
    assert {"js/main.js", "css/tokens.css", "icon.svg"} <= named
    for script in FOLDER.glob("js/*.js"):
        named |= {f"js/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())}
    for path in sorted(named):
        reply = await studio.client.get(f"/studio/{path}")
        assert reply.status_code == 200, path
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_file_that_is_had_is_not_sent_again(studio: WebServer) -> None:
    first = await studio.client.get("/studio/js/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await studio.client.get(
        "/studio/js/main.js", headers={"if-none-match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["page_files.py", "../routes.py", "%2e%2e/routes.py", "js/", "gallery/LICENCE", "js/main.js/"],
)
async def test_nothing_else_is_served(studio: WebServer, path: str) -> None:
    assert (await studio.client.get(f"/studio/{path}")).status_code == 404


async def test_the_gallery_says_what_it_has(studio: WebServer) -> None:
    described = await until_ready(studio)
    names = [picture["name"] for picture in described["pictures"]]
    assert names == sorted(names)
    assert {"a.png", HOSTILE, "broken.png"} <= set(names)
    assert described["embedded"] == len(names)
    assert described["left_out"] == 1
    assert described["chat"]["available"] is False
    assert described["chat"]["reason"]


async def test_calls_of_the_gallery_are_counted_by_a_name_of_their_own(studio: WebServer) -> None:
    await studio.get("/studio/api/gallery")
    counted = (await studio.client.get("/metrics")).text
    assert 'method="/studio/gallery"' in counted
    assert "SearchConcepts" not in counted


async def test_a_picture_comes_by_its_name_alone(studio: WebServer, folder: Path) -> None:
    for name in ("a.png", HOSTILE, "ü & %2e%2e.png"):
        reply = await studio.client.get(f"/studio/api/gallery/pictures/{quote(name, safe='')}")
        assert reply.content == (folder / name).read_bytes()
        assert reply.headers["content-type"] == "image/png"
    for name in ("none.png", quote("../gallery/LICENCE", safe=""), "A.PNG"):
        await studio.get(f"/studio/api/gallery/pictures/{name}", status=404)


async def test_a_search_finds_what_the_codes_say(studio: WebServer, folder: Path) -> None:
    image = encoded((folder / "a.png").read_bytes())
    body = {"inputs": [{"image": image}], "outputs": {"sparse": True}}
    [result] = (await studio.post("/v1/embed", body))["results"]
    sparse = result["sparse"]
    at = max(range(len(sparse["values"])), key=sparse["values"].__getitem__)
    concept = sparse["indices"][at]
    terms = [{"concept_id": concept, "weight": 2}]
    found = await studio.post("/studio/api/gallery/search", {"terms": terms})
    assert found["ready"] is True
    [hit] = [hit for hit in found["hits"] if hit["picture"] == "a.png"]
    assert hit["score"] == pytest.approx(sparse["values"][at] / sparse["norm"], rel=1e-4)
    assert [reason["concept_id"] for reason in hit["reasons"]] == [concept]
    evidence = await studio.get(f"/studio/api/concepts/{concept}/pictures?limit=3")
    values = [picture["value"] for picture in evidence["pictures"]]
    assert values == sorted(values, reverse=True)
    assert len(values) <= 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "terms"),
        ({"terms": []}, "terms"),
        ({"terms": [1]}, "terms[0]"),
        ({"terms": [{"concept_id": -1, "weight": 1}]}, "terms[0].concept_id"),
        ({"terms": [{"concept_id": 10**9, "weight": 1}]}, "terms[0].concept_id"),
        ({"terms": [{"concept_id": True, "weight": 1}]}, "terms[0].concept_id"),
        ({"terms": [{"concept_id": 1, "weight": "1"}]}, "terms[0].weight"),
        ({"terms": [{"concept_id": 1, "weight": 10**400}]}, "terms[0].weight"),
        ({"terms": [{"concept_id": 1}]}, "terms[0].weight"),
        ({"terms": [{"concept_id": 1, "weight": 1, "wait": 1}]}, "terms[0].wait"),
        ({"terms": [{"concept_id": 1, "weight": 1}] * 2}, "terms[1].concept_id"),
        ({"terms": [{"concept_id": 1, "weight": 1}], "limit": 0}, "limit"),
        ({"terms": [{"concept_id": 1, "weight": 1}], "limits": 3}, "limits"),
        ({"terms": [], "<b>\u202e": 3}, "?b??"),
    ],
)
async def test_a_bad_search_names_its_field(studio: WebServer, body: Any, field: str) -> None:
    problem = await studio.post("/studio/api/gallery/search", body, status=400)
    assert problem["field"] == field


async def test_an_unknown_concept_has_no_evidence(studio: WebServer) -> None:
    await studio.get("/studio/api/concepts/99999999/pictures", status=404)
    for limit in ("0", "101", "x", "9" * 5000, "-1", "0001000", "0001" + "0" * 5000, "1&limit=2"):
        await studio.get(f"/studio/api/concepts/1/pictures?limit={limit}", status=400)
    await studio.get("/studio/api/concepts/1/pictures?limits=1", status=400)
    for concept in ("x", "-1", "9" * 5000, "%D9%A3", "1.0"):
        problem = await studio.get(f"/studio/api/concepts/{concept}/pictures", status=400)
        assert problem["field"] == "concept"


async def test_with_tokens_the_page_is_for_all_and_the_gallery_is_not(
    tiny_bundle: Path, folder: Path, tmp_path: Path
) -> None:
    tokens = write_tokens(tmp_path / "tokens.json")
    async with web(tiny_bundle, gallery=str(folder), tokens=str(tokens)) as opened:
        assert (await opened.client.get("/studio/")).status_code == 200
        for path in ("gallery", "gallery/pictures/a.png", "concepts/1/pictures"):
            reply = await opened.client.get(f"/studio/api/{path}")
            assert reply.status_code == 401, path
            known = {"authorization": f"Bearer {ALICE}"}
            assert (
                await opened.client.get(f"/studio/api/{path}", headers=known)
            ).status_code == 200
