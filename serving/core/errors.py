"""What can go wrong with a call or an item of it: one enum, mapped to gRPC in status.py."""

from __future__ import annotations

import enum


class ErrorKind(enum.Enum):
    """The kinds of failure that a caller can see."""

    INVALID = enum.auto()
    """The request breaks the contract; sending it again cannot help."""
    UNAUTHENTICATED = enum.auto()
    FORBIDDEN = enum.auto()
    NOT_FOUND = enum.auto()
    CONFLICT = enum.auto()
    """The server's state does not allow it, such as unloading the last model."""
    EXHAUSTED = enum.auto()
    """A queue or a quota is full: try again later."""
    UNAVAILABLE = enum.auto()
    """Starting, draining or broken: try again later, or elsewhere."""
    EXPIRED = enum.auto()
    INTERNAL = enum.auto()


class ServingError(Exception):
    """A failure whose message is fit for the wire: no path, address, class or token in it."""

    def __init__(
        self, kind: ErrorKind, message: str, *, field: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.field = field
        """The field of the request at fault, as a path such as `inputs[3].image`."""
        self.retry_after = retry_after
        """Seconds until another try makes sense."""


class StartupError(Exception):
    """The server cannot start; the message is one line for the person who starts it."""


def invalid(field: str, problem: str) -> ServingError:
    """A field of the request that is not accepted."""
    return ServingError(ErrorKind.INVALID, f"{field}: {problem}", field=field)


def internal() -> ServingError:
    """Something of ours broke. What it was goes to the log, never to the caller."""
    return ServingError(ErrorKind.INTERNAL, "internal error")


def expired() -> ServingError:
    """The deadline passed before the answer was there."""
    return ServingError(ErrorKind.EXPIRED, "deadline exceeded")
