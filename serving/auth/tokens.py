"""Principals: who may call what, and how often. Read from a file, and again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle.schema import SchemaError, from_dict
from serving.core.config import read_mapping
from serving.core.errors import StartupError
from serving.core.metrics import Metrics

log = logging.getLogger(__name__)

PrincipalRole = Literal["embed", "admin"]

_CHECK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller. Of its token only the digest is kept."""

    name: str
    """For quotas and logs."""
    sha256: tuple[str, ...] = ()
    """SHA-256 digests in hex of the tokens that it may use; two while a token is rotated."""
    roles: tuple[PrincipalRole, ...] = ("embed",)
    """`embed` for the public services, `admin` for AdminService."""
    requests_per_second: float | None = None
    """Calls, or items of streams, a second on average. None: no bound of its own."""
    burst: float = 10.0
    """How many of them may come at once."""
    concurrent_calls: int | None = None
    """Calls in work at the same time. None: no bound of its own."""

    def __post_init__(self) -> None:
        for digest in self.sha256:
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise ValueError(f"{self.name}.sha256: must be 64 lower-case hex digits")
        if self.requests_per_second is not None and not 0 < self.requests_per_second < 1e9:
            raise ValueError(f"{self.name}.requests_per_second: must be greater than 0")
        if not 1 <= self.burst < 1e9:
            raise ValueError(f"{self.name}.burst: must be at least 1")
        if self.concurrent_calls is not None and self.concurrent_calls < 1:
            raise ValueError(f"{self.name}.concurrent_calls: must be at least 1")


ANONYMOUS = Principal(name="anyone")
"""Who calls a server that has no token file."""


@dataclass(frozen=True, kw_only=True)
class _File:
    principals: tuple[Principal, ...]


class TokenFile:
    """The principals of a file. A changed file that is not valid leaves the old ones in force."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path = path
        self._metrics = metrics
        self._checked = time.monotonic()
        self._stamp = _stamp(path)
        self._principals = _read(path)

    def find(self, token: str) -> Principal | None:
        """Whose token this is. Every digest is compared, so the time tells nothing about it."""
        self._refresh()
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for principal in self._principals:
            for known in principal.sha256:
                if hmac.compare_digest(digest, known):
                    found = principal
        return found

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked < _CHECK_S:
            return
        self._checked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._principals = _read(self._path)
            log.info("tokens: read again, %d principals", len(self._principals))
        except StartupError as error:
            self._metrics.tokens_rejected.inc()
            log.error("tokens: the changed file is not used: %s", error)


def _read(path: Path) -> tuple[Principal, ...]:
    try:
        principals = from_dict(_File, read_mapping(path, "tokens"), at="").principals
    except (SchemaError, ValueError) as error:
        raise StartupError(f"tokens: {error}") from None
    names = [principal.name for principal in principals]
    digests = [digest for principal in principals for digest in principal.sha256]
    if len(set(names)) < len(names) or len(set(digests)) < len(digests):
        raise StartupError("tokens: a name or digest appears twice")
    if not digests:
        raise StartupError("tokens: no principal has a token")
    return principals


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
