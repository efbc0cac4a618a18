"""The description: true to the routes, whole in itself, and without any other server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.routing import Route

from serving.http.body_model import StrictBody
from serving.http.problems import TITLES
from tests.serving.http.support import WebServer
from tests.serving.http.test_who_calls import routes

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNDESCRIBED = ("/studio", "/docs", "/openapi.json", "/embeddings")
"""The page's own routes, and a second path of one that is described."""


def is_described(route: Route) -> bool:
    return route.path != "/" and not route.path.startswith(UNDESCRIBED)


async def test_every_route_is_described(shared_web: WebServer) -> None:
    described = await shared_web.get("/openapi.json")
    expected = {
        (route.path, method.lower())
        for route in routes(shared_web)
        if is_described(route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    operations = {(path, m) for path, methods in described["paths"].items() for m in methods}
    assert operations == expected


async def test_every_reference_leads_to_a_schema(shared_web: WebServer) -> None:
    reply = await shared_web.client.get("/openapi.json")
    schemas = reply.json()["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/(\w+)"', reply.text))
    assert names <= set(schemas)
    assert {"ChatCompletionBody", "EmbedRequest", "Coverage", "Problem"} <= names | {"Problem"}
    page = (await shared_web.client.get("/docs")).text
    for name in re.findall(r'href="#(\w+)"', page):
        assert f'id="{name}"' in page


async def test_the_schema_accepts_what_the_server_accepts(shared_web: WebServer) -> None:
    schemas = (await shared_web.get("/openapi.json"))["components"]["schemas"]
    chat = schemas["ChatCompletionBody"]
    assert chat["additionalProperties"] is False
    assert "messages" in chat["required"]
    for cls in _below(StrictBody):
        assert schemas[cls.__name__]["properties"].keys() == cls.model_fields.keys()


def _below(cls: type[Any]) -> set[type[Any]]:
    return {below for c in cls.__subclasses__() for below in {c, *_below(c)}}


async def test_the_page_asks_no_other_server(shared_web: WebServer) -> None:
    page = (await shared_web.client.get("/docs")).text
    assert "<script" not in page
    assert "style=" not in page
    assert "<style" not in page
    links = set(re.findall(r'(?:src|href)="([^"]*)"', page))
    assert {link for link in links if not link.startswith(("#", "/"))} == set()
    for link in links:
        if link.startswith("/"):
            assert (await shared_web.client.get(link)).status_code == 200
    for status in TITLES:
        assert f'id="status-{status}"' in page
