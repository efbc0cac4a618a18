"""Who calls: principals and their tokens, from a file that is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle.schema import SchemaError, from_dict
from serving.core.config import read_mapping
from serving.core.errors import ErrorKind, ServingError, StartupError
from serving.core.metrics import Metrics

log = logging.getLogger(__name__)

PrincipalRole = Literal["embed", "admin"]

_CHECK_S = 1.0
"""How often the file is looked at, at most."""

_BEARER = "bearer "


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller. Only the digests of its tokens are kept."""

    name: str
    """Name of the principal, for quotas and logs."""
    sha256: tuple[str, ...] = ()
    """SHA-256 digests of the principal's tokens in hex; two while a token is rotated."""
    roles: tuple[PrincipalRole, ...] = ("embed",)
    """`embed` allows the public services, `admin` allows AdminService."""
    requests_per_second: float | None = None
    """Calls and stream items per second, on average. Default: no bound for this principal."""
    burst: float = 10.0
    """Calls and stream items that may come at once."""
    concurrent_calls: int | None = None
    """Calls in flight at the same time. Default: no bound for this principal."""

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


ANONYMOUS = Principal(name="anonymous")
"""Every caller of a server without a token file, and of a public method."""


@dataclass(frozen=True, kw_only=True)
class _FileContents:
    principals: tuple[Principal, ...]


class TokenFile:
    """The principals of a file. If a changed file is not valid, the old ones stay in force."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        """Raises StartupError when the file is not valid."""
        self._path = path
        self._metrics = metrics
        self._checked = time.monotonic()
        self._fingerprint = _fingerprint(path)
        self._principals = _read(path)

    def find(self, token: str) -> Principal | None:
        """The principal that has this token.

        The token is compared with every digest, each time in constant time, so that the time of a
        call says nothing about which digests exist.
        """
        self._refresh()
        digest = hashlib.sha256(token.encode()).hexdigest()
        match = None
        for principal in self._principals:
            for candidate in principal.sha256:
                if hmac.compare_digest(digest, candidate):
                    match = principal
        return match

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked < _CHECK_S:
            return
        self._checked = now
        fingerprint = _fingerprint(self._path)
        if fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        try:
            self._principals = _read(self._path)
            log.info("tokens: read again, %d principals", len(self._principals))
        except StartupError as error:
            self._metrics.tokens_rejected.inc()
            log.error("tokens: the changed file is not used: %s", error)


class Authenticator:
    """Finds the principal of a call by the bearer token in its headers."""

    def __init__(self, tokens: TokenFile | None) -> None:
        """Without a token file every caller is ANONYMOUS."""
        self._tokens = tokens

    def identify(self, headers: Iterable[tuple[str, str | bytes]]) -> Principal:
        """The caller. Raises ServingError for a token that is missing, malformed or unknown."""
        if self._tokens is None:
            return ANONYMOUS
        values = [value for key, value in headers if key.lower() == "authorization"]
        value = values[0] if len(values) == 1 else None
        if not isinstance(value, str) or not value.lower().startswith(_BEARER):
            raise ServingError(ErrorKind.UNAUTHENTICATED, "a bearer token is needed")
        principal = self._tokens.find(value[len(_BEARER) :].strip())
        if principal is None:
            raise ServingError(ErrorKind.UNAUTHENTICATED, "the token is not known")
        return principal


def _read(path: Path) -> tuple[Principal, ...]:
    try:
        principals = from_dict(_FileContents, read_mapping(path, "tokens"), at="").principals
    except (SchemaError, ValueError) as error:
        raise StartupError(f"tokens: {error}") from None
    names = [principal.name for principal in principals]
    digests = [digest for principal in principals for digest in principal.sha256]
    if len(set(names)) < len(names) or len(set(digests)) < len(digests):
        raise StartupError("tokens: a name or digest appears twice")
    if not digests:
        raise StartupError("tokens: no principal has a token")
    return principals


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file is written or replaced; None for one that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
