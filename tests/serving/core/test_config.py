"""The server's configuration: its sentences, its files and flags, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
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
    "a port too high": ({"port": 65_536}, "port: must be 0 to 65,535"),
    "chat is not on": ({"chat": "on"}, "chat: must be one of auto, off"),
    "no limit": ({"limits.queue_images": 0}, "limits.queue_images: must be 1 to 2,147,483,647"),
    "for ever": ({"limits.queue_s": float("inf")}, "limits.queue_s: must be a finite number"),
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


def numbers(cls: type, at: str = "") -> Iterator[tuple[str, type]]:
    """Every field of a configuration that holds a number, and its type."""
    for field in dataclasses.fields(cls):
        hint = typing.get_type_hints(cls)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from numbers(typing.cast(type, hint), f"{at}{field.name}.")
        for kind in {hint, *typing.get_args(hint)} & {int, float}:
            yield f"{at}{field.name}", kind


@pytest.mark.parametrize(("name", "kind"), list(numbers(ServerConfig)))
def test_every_number_has_a_range(name: str, kind: type) -> None:
    for value in (-1, 10**15, *((math.inf, -math.inf, math.nan) if kind is float else ())):
        with pytest.raises(StartupError) as caught:
            load_config(None, {name: value})
        assert str(caught.value).startswith(f"{name}: must be ")


def test_insecure_allows_it() -> None:
    assert load_config(None, {"host": "0.0.0.0", "insecure": True}).host == "0.0.0.0"
