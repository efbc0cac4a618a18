"""How a port listens: options of HTTP/2, TLS credentials, and the address."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from serving.core.config import ServerConfig, TlsConfig
from serving.core.errors import StartupError
from serving.core.limits import LimitsConfig


def channel_options(limits: LimitsConfig, *, shared: bool = False) -> list[tuple[str, int]]:
    """Options of a listening port; grpc's channel_arg_names.h has their names. A `shared` port is
    that of several processes, among which the system divides connections."""
    max_call_ms = int(limits.max_deadline_s * 1000)
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        # A stream counts for gRPC until its memory is free, a moment after its end.
        ("grpc.http2.max_deallocating_streams", limits.streams_per_connection),
        # Calls that wait to be looked at. Beyond these gRPC refuses them itself, without RetryInfo.
        ("grpc.server.max_pending_requests", 4 * limits.streams_per_connection),
        ("grpc.server.max_pending_requests_hard_limit", 8 * limits.streams_per_connection),
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.metadata_bytes),
        # With port reuse a second server on the port would start, and take half of the calls.
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_connection_idle_ms", int(limits.connection_idle_s * 1000)),
        # A connection that only seems alive, such as one with a stream held open, ends by its age.
        ("grpc.max_connection_age_ms", max(10 * max_call_ms, 3_600_000)),
        ("grpc.max_connection_age_grace_ms", max_call_ms),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_s * 1000)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_frame_size", 1 << 20),
    ]


def bind(server: grpc.aio.Server, config: ServerConfig, port: int, field: str) -> str:
    """Listens on the configured socket, or on `port` of the configured host.

    Gives the address that clients use. Raises StartupError naming the field.
    """
    if config.socket is not None:
        address = f"unix:{Path(config.socket).absolute()}"
    else:
        host = f"[{config.host}]" if ":" in config.host else config.host
        address = f"{host}:{port}"
    try:
        if config.tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, _credentials(config.tls))
    except RuntimeError:
        bound = 0
    if bound == 0:
        where = "socket" if config.socket is not None else f"{field}: {config.host} port {port}"
        raise StartupError(f"{where}: cannot listen there: is it in use?")
    return address if config.socket is not None else f"{address.rsplit(':', 1)[0]}:{bound}"


def _credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    certificate, key = _pem(tls.certificate, "tls.certificate"), _pem(tls.key, "tls.key")
    client_ca = _pem(tls.client_ca, "tls.client_ca") if tls.client_ca is not None else None
    check_tls(tls)
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )


def check_tls(tls: TlsConfig) -> ssl.SSLContext:
    """The files as the standard library reads them, which fails now: grpc accepts any bytes, and
    then fails at every handshake. Raises StartupError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without `password`, the password of a protected key is asked for on the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (OSError, ValueError):
        raise StartupError("tls.key: not the key of tls.certificate") from None
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ValueError):
            raise StartupError("tls.client_ca: holds no certificate") from None
    return context


def _pem(path: str, field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        raise StartupError(f"{field}: the file cannot be read") from None
