"""Configuration, tokens, quotas, the batcher's arithmetic, metrics and the in-process server."""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.request
from pathlib import Path

import pytest

from serving.auth.quota import Quota
from serving.auth.tokens import Principal
from serving.core.config import BatchConfig, ServerConfig, TlsConfig, documentation, load_config
from serving.core.errors import ErrorKind, ServingError, StartupError
from serving.core.limits import LimitsConfig
from serving.engines.base import EngineConfig
from serving.local import local_server
from sparseclip import Client
from tests.serving.harness import PNG, embed_request, refused, serving


def test_every_field_has_a_sentence() -> None:
    for cls in (ServerConfig, TlsConfig, BatchConfig, EngineConfig, LimitsConfig, Principal):
        sentences = documentation(cls)
        assert {field.name for field in dataclasses.fields(cls)} == set(sentences), cls
        assert all(len(text.split()) > 1 for text in sentences.values())


FORMATS = {
    "toml": 'host = "127.0.0.2"\n[limits]\ndrain_s = 3\n',
    "json": '{"host": "127.0.0.2", "limits": {"drain_s": 3}}',
    "yaml": "host: 127.0.0.2\nlimits: {drain_s: 3}\n",
}


@pytest.mark.parametrize("form", FORMATS)
def test_files_and_flags(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"config.{form}"
    path.write_text(FORMATS[form])
    flags = {"port": 7, "limits.queue_s": 1.5, "tls.key": None}
    config = load_config(path, flags)
    assert (config.host, config.port) == ("127.0.0.2", 7)
    assert (config.limits.drain_s, config.limits.queue_s) == (3.0, 1.5)
    assert config.tls is None


MISTAKES = {
    "an unknown key": ({"prot": 1}, "prot: unknown key; did you mean port?"),
    "a wrong type": ({"port": "x"}, "port: must be int"),
    "a port too high": ({"port": 65_536}, "port: must be 0 to 65535"),
    "chat is not on": ({"chat": "on"}, "chat: must be one of auto, off"),
    "no conversation": ({"chat_batch": 0}, "chat_batch: must be greater than 0"),
    "no limit": ({"limits.queue_images": 0}, "limits.queue_images: must be greater than 0"),
    "half of TLS": ({"tls.key": "x"}, "tls.certificate: missing"),
    "admins without tokens": ({"admin_port": 1}, "admin_port: needs tokens"),
    "an open host": ({"host": "0.0.0.0"}, "host: plaintext beyond this machine"),
    "nobody knows whom": (
        {"host": "::", "tls.key": "x", "tls.certificate": "x"},
        "host: callers beyond this machine need tokens",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_name_the_field(name: str) -> None:
    flags, message = MISTAKES[name]
    with pytest.raises(StartupError) as caught:
        load_config(None, flags)
    assert str(caught.value).startswith(message)


def test_insecure_allows_it() -> None:
    assert load_config(None, {"host": "0.0.0.0", "insecure": True}).host == "0.0.0.0"


def test_quota_is_a_token_bucket() -> None:
    now = 0.0
    principal = Principal(name="a", requests_per_second=2.0, burst=3.0, concurrent_calls=4)
    quota = Quota(principal, clock=lambda: now)
    for _ in range(3):
        quota.start_call()
        quota.end_call()
    with pytest.raises(ServingError) as caught:
        quota.start_call()
    assert caught.value.kind is ErrorKind.EXHAUSTED
    assert caught.value.retry_after == pytest.approx(0.5)
    now = 0.5
    quota.start_call()
    now = 100.0
    for _ in range(3):
        quota.start_call()
    now = 200.0
    with pytest.raises(ServingError, match="same time"):
        quota.start_call()


async def test_metrics_have_a_port_of_their_own(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, metrics_port=0) as running:
        await running.golden()
        await refused(running.stub.Embed(embed_request()))
        await running.stub.Embed(embed_request(PNG, b"no image"))
        address = f"http://{running.server.metrics_address}/metrics"
        text = urllib.request.urlopen(address).read().decode()
    method = 'method="/sparseclip.v1.EmbeddingService/Embed"'
    for line in (
        f'sparseclip_calls_total{{code="OK",{method}}} 2.0',
        f'sparseclip_calls_total{{code="INVALID_ARGUMENT",{method}}} 1.0',
        'sparseclip_items_total{code="OK",kind="image"} 2.0',
        'sparseclip_items_total{code="OK",kind="text"} 1.0',
        'sparseclip_items_total{code="INVALID_ARGUMENT",kind="image"} 1.0',
        'sparseclip_batch_items_count{graph="image"} 2.0',
        'sparseclip_stage_seconds_count{graph="text",stage="decode"} 1.0',
        'sparseclip_stage_seconds_count{graph="image",stage="inference"} 2.0',
        'sparseclip_stage_seconds_count{graph="image",stage="queue"} 2.0',
        'sparseclip_queued_items{graph="image"} 0.0',
        'sparseclip_admitted_items{graph="image"} 0.0',
        "sparseclip_calls_in_flight 0.0",
        "sparseclip_serving 1.0",
    ):
        assert line in text, line


def test_local_server(tiny_bundle: Path) -> None:
    with local_server(tiny_bundle) as address:
        directory = Path(address.removeprefix("unix:")).parent
        assert os.stat(directory).st_mode & 0o077 == 0
        with Client(address) as client:
            reply = client.embed(images=[PNG], texts=["a dog"])
            assert [item.status.ok for item in reply.items] == [True, True]
    assert not directory.exists()


def test_local_server_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="bundle"), local_server(tmp_path):
        pass


def test_tokens_files_are_strict(tmp_path: Path) -> None:
    from serving.auth.tokens import TokenFile
    from serving.core.metrics import Metrics

    path = tmp_path / "tokens.json"
    good = {"name": "a", "sha256": ["0" * 64]}
    for principals, message in (
        ([], "no principal"),
        ([{**good, "rols": []}], "rols: unknown key; did you mean roles"),
        ([{**good, "roles": ["root"]}], "roles"),
        ([good, {**good, "name": "b"}], "appears twice"),
        ([{**good, "sha256": ["00"]}], "64 lower-case hex digits"),
    ):
        path.write_text(json.dumps({"principals": principals}))
        with pytest.raises(StartupError, match=message):
            TokenFile(path, Metrics())
