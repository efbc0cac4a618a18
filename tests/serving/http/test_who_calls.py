"""F-17 to F-21 over HTTP: tokens, names of the server, other sites' pages, and encryption."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.routing import Route

from serving.core.config import ServerConfig, TlsConfig
from serving.core.errors import StartupError
from serving.http.guard import POLICY
from serving.server import running
from tests.serving.http.support import JSON, WebServer, checked, encoded, web
from tests.serving.support.certificates import ALICE, SLOW, Authority, bearer, write_tokens
from tests.serving.support.running_server import assert_clean, config_for, unharmed

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC = {"/health", "/healthz", "/readyz", "/docs", "/docs.css", "/openapi.json"}
"""They show nothing of anybody."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tiny_bundle: Path, tmp_path_factory: Any) -> AsyncIterator[WebServer]:
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(path, requests_per_second=0.01, burst=2)
    async with web(tiny_bundle, token=ALICE, tokens=str(path)) as opened:
        yield opened


def routes(opened: WebServer) -> list[Route]:
    """Every route of the application."""
    app: Any = opened.running.server._http
    found = [r for r in app._uvicorn.loaded_app._app.routes if isinstance(r, Route)]
    assert len(found) > 10
    return found


def is_page(path: str) -> bool:
    return path in ("/", "/studio") or (
        path.startswith("/studio/") and not path.startswith("/studio/api")
    )


async def test_f17_every_route_needs_a_token(guarded: WebServer) -> None:
    async with unharmed(guarded.running):
        for route in routes(guarded):
            method = "POST" if "POST" in (route.methods or ()) else "GET"
            path = route.path.replace("{concept:int}", "1").replace("{concept}", "1")
            path = path.replace("{model}", "tiny").replace("{name:path}", "a.png")
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": ALICE}):
                reply = await guarded.client.request(
                    method, path, content=b"\xff", headers={**JSON, **headers}
                )
                if path in PUBLIC or is_page(path):
                    assert reply.status_code < 400, path
                    continue
                assert reply.status_code == 401, path
                assert reply.headers["www-authenticate"] == "Bearer"
                checked(reply)


async def test_f21_a_quota_is_that_of_the_principal(guarded: WebServer) -> None:
    headers = dict(bearer(SLOW))
    replies = [await guarded.client.get("/v1/concepts/1", headers=headers) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert int(replies[2].headers["retry-after"]) >= 1
    other = dict(bearer(ALICE))
    assert (await guarded.client.get("/v1/concepts/1", headers=other)).status_code == 200


async def test_metrics_need_a_token_where_there_are_some(guarded: WebServer) -> None:
    assert (await guarded.client.get("/metrics")).status_code == 401
    reply = await guarded.client.get("/metrics", headers=dict(bearer(ALICE)))
    assert "sparseclip_calls_total" in reply.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8080", 421),
        ("evil.example:localhost", 421),
        ("0.0.0.0", 421),
        ("", 421),
    ],
)
async def test_a_page_of_another_site_has_another_name(
    shared_web: WebServer, host: str, status: int
) -> None:
    for path in ("/healthz", "/v1/concepts/1", "/no such path"):
        reply = await shared_web.client.get(path, headers={"host": host})
        assert reply.status_code == (404 if status == 200 and " " in path else status)


async def test_further_names_are_configured(tiny_bundle: Path) -> None:
    async with web(tiny_bundle, http_hosts="pictures.example, other.example") as opened:
        for host, status in (("pictures.example", 200), ("Other.example:443", 200), ("a", 421)):
            reply = await opened.client.get("/healthz", headers={"host": host})
            assert reply.status_code == status


async def test_beyond_this_machine_every_name_is_taken(tiny_bundle: Path) -> None:
    async with web(tiny_bundle, host="0.0.0.0", insecure=True) as opened:
        _, port = opened.host
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            reply = await client.get("/healthz", headers={"host": "pictures.example"})
            assert reply.status_code == 200


async def test_pages_of_other_sites_may_read_nothing(shared_web: WebServer) -> None:
    origin = {"origin": "https://evil.example"}
    for method, path in (
        ("OPTIONS", "/v1/embed"),
        ("GET", "/v1/concepts/1"),
        ("POST", "/v1/embed"),
        ("GET", "/studio/"),
        ("GET", "/nothing"),
    ):
        headers = {**origin, "access-control-request-method": "POST"}
        reply = await shared_web.client.request(method, path, headers=headers)
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["content-security-policy"] == POLICY
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
    refused = await shared_web.client.options("/v1/embed", headers=origin)
    assert (refused.status_code, refused.json()["detail"]) == (405, "this path takes POST")


TRAVERSALS = [
    "/studio/../../etc/passwd",
    "/studio/..%2f..%2f..%2fetc/passwd",
    "/studio/%2e%2e/%2e%2e/etc/passwd",
    "/studio//etc/passwd",
    "/studio/....//....//etc/passwd",
    "/studio/..\\..\\etc\\passwd",
    "/studio/%00",
    "/studio/index.html%00.png",
    "/studio/__init__.py",
    "/studio/../routes.py",
    "/studio/api/gallery/pictures/..%2f..%2fetc%2fpasswd",
    "/studio/api/gallery/pictures/%2fetc%2fpasswd",
    "/%c0%ae%c0%ae/etc/passwd",
    "//evil.example/",
    "/v1/models/..%2f..%2fetc",
    "/v1/concepts/..%2f1",
]


@pytest.mark.parametrize("path", TRAVERSALS)
async def test_no_path_leaves_the_page(shared_web: WebServer, path: str) -> None:
    url = httpx.URL(shared_web.address).copy_with(raw_path=path.encode())
    reply = await shared_web.client.send(httpx.Request("GET", url))
    assert reply.status_code in (400, 404)
    assert "root:" not in reply.text
    assert_clean(checked(reply)["detail"])


async def test_the_root_leads_to_the_studio(shared_web: WebServer) -> None:
    reply = await shared_web.client.get("/")
    assert reply.status_code in (302, 307)
    assert reply.headers["location"] == "/studio/"


async def test_f20_tls_is_that_of_the_other_ports(tiny_bundle: Path, tmp_path: Path) -> None:
    servers, clients = Authority(tmp_path, "servers"), Authority(tmp_path, "clients")
    own, known = servers.issue("server"), clients.issue("known")
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    tls = TlsConfig(certificate=own.certificate_path, key=own.key_path, client_ca=clients.path)
    config = config_for(tiny_bundle, tls=tls, http_port=0)
    async with running(config) as server:
        address = server.http_address
        assert address is not None
        assert address.startswith("https://")
        for pem, works in ((known, True), (stranger, False), (None, False)):
            context = ssl.create_default_context(cafile=servers.path)
            if pem is not None:
                context.load_cert_chain(pem.certificate_path, pem.key_path)
            async with httpx.AsyncClient(verify=context, base_url=address) as client:
                if works:
                    body = {"inputs": [{"image": encoded()}]}
                    assert (await client.post("/v1/embed", json=body)).status_code == 200
                else:
                    with pytest.raises(httpx.TransportError):
                        await client.get("/healthz")
        with pytest.raises(httpx.TransportError):
            await httpx.AsyncClient().get(address.replace("https", "http"))


async def test_f45_a_port_in_use_is_one_line(shared_web: WebServer, tiny_bundle: Path) -> None:
    _, port = shared_web.host
    with pytest.raises(StartupError, match=rf"^http_port: 127\.0\.0\.1 port {port}: cannot"):
        async with running(config_for(tiny_bundle, http_port=port)):
            pass


async def test_http_beside_a_socket_is_refused() -> None:
    with pytest.raises(StartupError, match="http_port: cannot be combined with socket"):
        ServerConfig(http_port=0, socket="s", host="0.0.0.0")
