"""How to reach a server: its address, the token and TLS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import grpc

from sparseclip._arguments import real_number

# Far above a reply of 32 images with dense vectors and patch maps.
_MAX_REPLY_BYTES = 64 * 1024 * 1024

ChannelOptions = list[tuple[str, int | str]]

# gRPC makes a deadline of 0 of an infinite timeout. No server's longest deadline is near this.
_MAX_TIMEOUT = 24 * 3600.0


def bounded_timeout(seconds: float) -> float:
    """A timeout that gRPC can hold: at most a day, which infinity also becomes.

    Raises ValueError for NaN and for a number that is not greater than 0, and TypeError.
    """
    if not real_number(seconds, "timeout") > 0:
        raise ValueError("timeout: must be a number of seconds greater than 0")
    return min(seconds, _MAX_TIMEOUT)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Encrypts the connection. A certificate and its key prove who the caller is (mTLS)."""

    ca: str | PathLike[str] | None = None
    """PEM file with the authorities to trust; None trusts the public ones that grpc ships with."""
    certificate: str | PathLike[str] | None = None
    """PEM file with the caller's certificate chain."""
    key: str | PathLike[str] | None = None
    """PEM file with the caller's private key."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises ValueError for a certificate without its key, and naming the option whose file
        cannot be read.
        """
        if (self.certificate is None) != (self.key is None):
            raise ValueError("tls: a certificate and its key must be given together")
        return grpc.ssl_channel_credentials(
            root_certificates=_read("ca", self.ca),
            private_key=_read("key", self.key),
            certificate_chain=_read("certificate", self.certificate),
        )


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach one port of a server."""

    address: str
    """`host:port`, or `unix:` and a socket's path. Calls go in turn to all addresses of a name."""
    token: str | None = field(default=None, repr=False)
    """Sent with every call as a bearer token."""
    tls: Tls | None = None
    """None means plaintext."""
    insecure: bool = False
    """Allows a token in plaintext to another machine, where anyone on the way can read it."""

    def __post_init__(self) -> None:
        if "://" in self.address or not self.address.strip():
            raise ValueError("address: give host:port or unix:PATH")
        if not self._is_port_possible():
            raise ValueError("address: the port must be 1 to 65535")
        if self.token and self.tls is None and not (self.insecure or self.is_local):
            raise ValueError("token: refused in plaintext to another machine; use TLS")
        if self.token and (not self.token.isascii() or not self.token.isprintable()):
            raise ValueError("token: must be printable ASCII")

    def _is_port_possible(self) -> bool:
        """gRPC takes a larger number modulo 65,536, and so another server's port."""
        port = self.address.rpartition(":")[2]
        if self.address.startswith("unix:") or not port.isdigit():
            return True
        return len(port) <= 5 and 1 <= int(port) <= 65_535

    @property
    def is_local(self) -> bool:
        """The address never leaves this machine."""
        if self.address.startswith("unix:"):
            return True
        host = self.address.rsplit(":", 1)[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def options(self) -> ChannelOptions:
        """Options of the channel: no retries by grpc beside ours, no proxy for this machine."""
        return [
            # A name may stand for replicas: gRPC's default would send every call to one of them.
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0 if self.is_local else 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # Also the time that a connection has for its handshakes.
            ("grpc.min_reconnect_backoff_ms", 5_000),
            ("grpc.max_reconnect_backoff_ms", 5_000),
        ]

    def open(self) -> grpc.Channel:
        """Opens a channel whose calls block."""
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=self.options())
        return grpc.secure_channel(self.address, self.tls.credentials(), options=self.options())

    def open_aio(self) -> grpc.aio.Channel:
        """Opens a channel whose calls are awaited."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, options=self.options())
        return grpc.aio.secure_channel(self.address, self.tls.credentials(), options=self.options())


def _read(field_name: str, path: str | PathLike[str] | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError:
        raise ValueError(f"tls {field_name}: the file cannot be read") from None
