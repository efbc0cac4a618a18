"""The server's configuration: every setting, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from bundle.schema import NumberRange, SchemaError, from_dict
from bundle.store import BundleError, default_bundle
from mllm_adapter.engines import GENERATION_ENGINES
from serving.core.errors import StartupError
from serving.core.jpeg_decoder import JpegDecoder
from serving.core.limits import LimitsConfig
from serving.engines.base import EngineConfig

Port = Annotated[int, NumberRange(0, 65_535)]


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

    max_images: Annotated[int, NumberRange(1, 10_000)] = 16
    """Maximum number of images in one run."""
    max_texts: Annotated[int, NumberRange(1, 100_000)] = 64
    """Maximum number of texts in one run."""
    wait_ms: Annotated[float, NumberRange(0, 60_000)] = 2.0
    """Most milliseconds that an idle engine waits for items that are still being decoded. It waits
    only where that saves more time than it costs, by what was measured so far."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """All settings of `sparseclip serve`."""

    bundle: str | None = None
    """Directory of a model or of one version. Default: $SPARSECLIP_BUNDLE, or the demo bundle."""
    models: str | None = None
    """Directory of models, from which AdminService loads versions by name."""
    max_models: Annotated[int, NumberRange(1, 1_000)] = 4
    """Versions that may be loaded at the same time."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 50051
    """Port of the public services; 0 takes a free one."""
    socket: str | None = None
    """Unix domain socket to listen on, instead of host and port."""
    http_port: Port | None = None
    """Port of the HTTP door: JSON for OpenAI's and other stock clients, and the studio (extra
    http). Default: HTTP is not served."""
    http_hosts: str | None = None
    """Further names of this server, separated by commas, that callers on this machine may use; a
    page of another site could use one of its own."""
    gallery: str | None = None
    """Folder of pictures that the studio offers and searches. Default: a set of drawings that comes
    with Sparseclip."""
    gallery_export: str | None = None
    """Export of the folder `gallery` by the model that is served, whose codes the studio takes
    (extra export). Default: the studio embeds the pictures."""
    admin_port: Port | None = None
    """Port of AdminService; needs tokens. Default: AdminService is not served."""
    metrics_port: Port | None = None
    """Port of the Prometheus metrics; each further front end takes the next one. Default: metrics
    are not served."""
    traces: str | None = None
    """Base address of an OpenTelemetry collector, such as http://localhost:4318, which gets a trace
    of each call by OTLP over HTTP (extra tracing). Default: no traces."""
    traces_share: Annotated[float, NumberRange(0, 1)] = 1.0
    """Share of the traces that are recorded and sent."""
    tokens: str | None = None
    """File of principals and their tokens. Default: every caller may use the public services."""
    tls: TlsConfig | None = None
    """Serve over TLS."""
    insecure: bool = False
    """Allow plaintext, or callers without token or certificate, beyond this machine."""
    front_ends: Annotated[int, NumberRange(0, 256)] = 0
    """Processes that take calls and decode images, over one process that runs the model; each has
    limits and quotas of its own. 0 does all in one process, with AdminService and chat."""
    reflection: bool = False
    """Serve gRPC server reflection."""
    decode_workers: Annotated[int, NumberRange(1, 1_000)] | None = None
    """Processes that decode images, for each front end. Default: one per core that it has, at most
    4 and at least one."""
    decoder: JpegDecoder = "pillow"
    """What decodes JPEGs: pillow on the CPU; nvimgcodec on the first CUDA device (extra nvimgcodec;
    nobody has seen it run on a GPU yet); nvimgcodec_cpu the same library on the CPU, to try it."""
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
    chat_batch: Annotated[int, NumberRange(1, 10_000)] = 32
    """Conversations that the language model answers at the same time; others wait."""
    failures_before_probe: Annotated[int, NumberRange(1, 1_000_000)] = 3
    """Consecutive failed items before a probe; a model that fails it is taken out of service."""
    probe_s: Annotated[float, NumberRange(0.001, 86_400)] = 1.0
    """Seconds between probes of a model that is out of service."""

    def __post_init__(self) -> None:
        if self.admin_port is not None and self.tokens is None:
            raise StartupError("admin_port: needs tokens, since only admins may call it")
        if self.admin_port is not None and self.socket is not None:
            raise StartupError("admin_port: cannot be combined with socket")
        if self.http_port is not None and self.socket is not None:
            raise StartupError("http_port: cannot be combined with socket")
        if self.gallery_export is not None and self.gallery is None:
            raise StartupError("gallery_export: needs gallery, the folder of its pictures")
        if self.traces is not None and not re.match(r"https?://[^/\s]", self.traces):
            raise StartupError("traces: must begin with http:// or https://, and name a host")
        if self.front_ends:
            self._check_front_ends()
        if self.is_local or self.insecure:
            return
        if self.tls is None:
            raise StartupError("host: plaintext beyond this machine needs tls, or insecure")
        if self.tokens is None and self.tls.client_ca is None:
            raise StartupError(
                "host: callers beyond this machine need tokens, tls.client_ca, or insecure"
            )

    def _check_front_ends(self) -> None:
        if self.chat != "off":
            raise StartupError("front_ends: one process answers conversations: needs chat = off")
        if self.admin_port is not None:
            raise StartupError("front_ends: cannot be combined with admin_port")
        if self.socket is not None:
            raise StartupError("front_ends: cannot be combined with socket")
        if (self.metrics_port or 0) + self.front_ends - 1 > 65_535:
            raise StartupError("metrics_port: too high for so many front ends")

    @property
    def bundle_path(self) -> Path:
        """The bundle that is served. Raises StartupError when none is named and none is found."""
        try:
            return Path(self.bundle) if self.bundle else default_bundle()
        except BundleError as error:
            raise StartupError(str(error)) from None

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
    except SchemaError as error:
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
