"""The server's configuration: its sentences, its files and flags, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from serving.auth.tokens import Principal
from serving.core.config import BatchConfig, ServerConfig, TlsConfig, documentation, load_config
from serving.core.errors import StartupError
from serving.core.limits import LimitsConfig
from serving.engines.base import EngineConfig


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
