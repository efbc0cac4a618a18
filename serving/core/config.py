"""The server's configuration: every setting, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from bundle.schema import SchemaError, from_dict
from mllm_adapter.engines import GENERATION_ENGINES
from serving.core.errors import StartupError
from serving.core.limits import LimitsConfig, check_range
from serving.engines.base import EngineConfig


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Encryption of every port."""

    certificate: str
    """PEM file with the server's certificate chain."""
    key: str
    """PEM file with the server's private key."""
    client_ca: str | None = None
    """PEM file with authorities; callers then need a certificate from one of them (mTLS)."""


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How items of different calls share runs of the engine."""

    max_images: int = 16
    """Maximum number of images in one run."""
    max_texts: int = 64
    """Maximum number of texts in one run."""
    wait_ms: float = 2.0
    """Milliseconds that an idle engine waits for admitted items that are still being decoded."""

    def __post_init__(self) -> None:
        check_range("batch.max_images", self.max_images, 1, 10_000)
        check_range("batch.max_texts", self.max_texts, 1, 100_000)
        check_range("batch.wait_ms", self.wait_ms, 0, 60_000)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """All settings of `sparseclip serve`."""

    bundle: str | None = None
    """Directory of a model or of one version. Default: $SPARSECLIP_BUNDLE, or the demo bundle."""
    models: str | None = None
    """Directory of models, from which AdminService loads versions by name."""
    max_models: int = 4
    """Versions that may be loaded at the same time."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 50051
    """Port of the public services; 0 takes a free one."""
    socket: str | None = None
    """Unix domain socket to listen on, instead of host and port."""
    admin_port: int | None = None
    """Port of AdminService; needs tokens. Default: AdminService is not served."""
    metrics_port: int | None = None
    """Port of the Prometheus metrics. Default: metrics are not served."""
    tokens: str | None = None
    """File of principals and their tokens. Default: every caller may use the public services."""
    tls: TlsConfig | None = None
    """Serve over TLS."""
    insecure: bool = False
    """Allow plaintext, or callers without token or certificate, beyond this machine."""
    reflection: bool = False
    """Serve gRPC server reflection."""
    decode_workers: int | None = None
    """Processes that decode images. Default: one per core, at most 4."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The engine that runs the model."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """How items of different calls are batched."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """What calls and callers may use."""
    chat: Literal["auto", "off"] = "auto"
    """auto serves ChatService if the bundle has an adapter and the extra chat is installed."""
    chat_engine: Annotated[str, GENERATION_ENGINES] = GENERATION_ENGINES.names[0]
    """Engine that runs the language model."""
    chat_batch: int = 32
    """Conversations that the language model answers at the same time; others wait."""
    failures_before_probe: int = 3
    """Consecutive failed items before a probe; a model that fails it is taken out of service."""
    probe_s: float = 1.0
    """Seconds between probes of a model that is out of service."""

    def __post_init__(self) -> None:
        for name, value, lowest, highest in (
            ("port", self.port, 0, 65_535),
            ("admin_port", self.admin_port, 0, 65_535),
            ("metrics_port", self.metrics_port, 0, 65_535),
            ("max_models", self.max_models, 1, 1_000),
            ("decode_workers", self.decode_workers, 1, 1_000),
            ("chat_batch", self.chat_batch, 1, 10_000),
            ("failures_before_probe", self.failures_before_probe, 1, 1_000_000),
            ("probe_s", self.probe_s, 0.001, 86_400),
            ("engine.threads", self.engine.threads, 0, 1_000),
            ("engine.runs", self.engine.runs, 0, 1_000),
            ("engine.memory_mib", self.engine.memory_mib, 0, 10_000_000),
        ):
            if value is not None:
                try:
                    check_range(name, value, lowest, highest)
                except ValueError as error:
                    raise StartupError(str(error)) from None
        if self.admin_port is not None and self.tokens is None:
            raise StartupError("admin_port: needs tokens, since only admins may call it")
        if self.admin_port is not None and self.socket is not None:
            raise StartupError("admin_port: cannot be combined with socket")
        if self.is_local or self.insecure:
            return
        if self.tls is None:
            raise StartupError("host: plaintext beyond this machine needs tls, or insecure")
        if self.tokens is None and self.tls.client_ca is None:
            raise StartupError(
                "host: callers beyond this machine need tokens, tls.client_ca, or insecure"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the ports."""
        if self.socket is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> ServerConfig:
    """Reads a configuration file and applies the overrides, which win over the file.

    Overrides have dotted names, such as `limits.drain_s`; None stands for no override. Raises
    StartupError, which names the field, for a key or value that is not accepted.
    """
    data = dict(read_mapping(path, "config")) if path is not None else {}
    for name, value in (overrides or {}).items():
        if value is None:
            continue
        *parents, leaf = name.split(".")
        inner = data
        for parent in parents:
            inner[parent] = dict(inner.get(parent) or {})
            inner = inner[parent]
        inner[leaf] = value
    try:
        return from_dict(ServerConfig, data, at="")
    except (SchemaError, ValueError) as error:
        raise StartupError(str(error)) from None


def read_mapping(path: Path, field_name: str) -> dict[str, Any]:
    """Reads a file as TOML, JSON or YAML, by its ending. Raises StartupError naming the field."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise StartupError(f"{field_name}: the file cannot be read") from None
    try:
        if path.suffix == ".toml":
            data: object = tomllib.loads(text)
        elif path.suffix == ".json":
            data = json.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            data = _yaml(text, field_name)
        else:
            raise StartupError(f"{field_name}: must end in .toml, .json or .yaml")
    except (ValueError, RecursionError):
        raise StartupError(f"{field_name}: not valid {path.suffix[1:].upper()}") from None
    if not isinstance(data, dict):
        raise StartupError(f"{field_name}: must hold keys and values")
    return data


def _yaml(text: str, field_name: str) -> object:
    try:
        import yaml
    except ModuleNotFoundError:
        raise StartupError(f"{field_name}: YAML needs the package pyyaml; TOML does not") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError("not YAML") from error


def documentation(cls: type = ServerConfig) -> dict[str, str]:
    """The sentence under each field of a configuration class; --help and the docs show it."""
    # Python keeps no docstring of a field, so the sentences come from the source.
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    names = {f.name for f in dataclasses.fields(cls)}
    sentences = {}
    for line, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(line, ast.AnnAssign)
            and isinstance(line.target, ast.Name)
            and line.target.id in names
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            sentences[line.target.id] = str(following.value.value)
    return sentences
