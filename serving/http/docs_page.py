"""`/docs`: the description of the HTTP door as one page, which asks no other server."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving.http.json_body import JSON_TYPE, dump_json
from serving.http.openapi import openapi
from serving.http.problems import TITLES

_STYLE = Path(__file__).with_name("docs_page.css")


def docs_routes() -> list[BaseRoute]:
    """The routes of the description. They need no token: it is the same for everybody."""
    style = _STYLE.read_bytes()

    async def page(request: Request) -> Response:
        return Response(docs_page(), media_type="text/html")

    async def described(request: Request) -> Response:
        return Response(dump_json(openapi()), media_type=JSON_TYPE)

    async def sheet(request: Request) -> Response:
        return Response(style, media_type="text/css")

    return [
        Route("/docs", page, methods=["GET"]),
        Route("/docs.css", sheet, methods=["GET"]),
        Route("/openapi.json", described, methods=["GET"]),
    ]


@functools.cache
def docs_page() -> str:
    """The page."""
    description = openapi()
    schemas = description["components"]["schemas"]
    parts = [_introduction()]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(path, method, operation))
    parts += ["<h2>Errors</h2>", _statuses(), "<h2>Types</h2>"]
    for name, schema in sorted(schemas.items()):
        parts.append(_type(name, schema))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>Sparseclip over HTTP</title><link rel="stylesheet" href="/docs.css"></head>'
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def _introduction() -> str:
    return (
        "<h1>Sparseclip over HTTP</h1><p>The same services as over gRPC. A token, where the server "
        "wants one, goes into the header <code>Authorization: Bearer TOKEN</code>; the header "
        "<code>sparseclip-timeout</code> has the seconds that a call may take. Images come as "
        'bytes: no address is ever fetched. <a href="/openapi.json">openapi.json</a> has this '
        "page for programs.</p>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    head = f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
    parts = [head, f"<p>{_prose(operation['summary'])}</p>"]
    if operation["parameters"]:
        rows = [(p["name"], p["in"], p["schema"]["type"]) for p in operation["parameters"]]
        parts.append(_table(("parameter", "in", "type"), (map(escape, row) for row in rows)))
    for title, content in (
        ("Body", operation.get("requestBody", {})),
        ("Answer", operation["responses"]["200"]),
    ):
        for media in content.get("content", {}).values():
            parts.append(f"<p>{title}: {_kind(media['schema'])}</p>")
    return "".join(parts)


def _statuses() -> str:
    rows = (
        (f'<span id="status-{status}">{status}</span>', escape(title))
        for status, title in TITLES.items()
    )
    return _table(("status", "meaning"), rows)


def _type(name: str, schema: dict[str, Any]) -> str:
    described = f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""
    rows = (
        (f"<code>{escape(field)}</code>", _kind(kind), _prose(kind.get("description", "")))
        for field, kind in schema["properties"].items()
    )
    table = _table(("field", "type", "meaning"), rows)
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>{described}{table}'


def _kind(schema: dict[str, Any]) -> str:
    """A type in words, with links to those that are described."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        kinds = [_kind(kind) for kind in schema["anyOf"] if kind.get("type") != "null"]
        return " or ".join(kinds)
    if "const" in schema:
        return f"<code>{escape(str(dump_json(schema['const']), 'utf-8'))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    encoding = schema.get("contentEncoding")
    return escape(encoding or schema.get("type", "any"))


def _prose(text: str) -> str:
    """A docstring: its backquotes are code."""
    parts = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
