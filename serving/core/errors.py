"""What can go wrong with a call or one of its items. rpc/error_to_status.py maps it to gRPC."""

from __future__ import annotations

import enum


class ErrorKind(enum.Enum):
    """The kinds of failure that a caller can see."""

    INVALID = enum.auto()
    """The request breaks the contract; sending it again cannot help."""
    UNAUTHENTICATED = enum.auto()
    """The caller did not prove who it is."""
    FORBIDDEN = enum.auto()
    """The caller is known, but its roles do not allow the call."""
    NOT_FOUND = enum.auto()
    """The request asks for something that does not exist."""
    UNIMPLEMENTED = enum.auto()
    """The server has no such method."""
    CONFLICT = enum.auto()
    """The server's state does not allow the call, such as unloading the last model."""
    EXHAUSTED = enum.auto()
    """A queue or a quota is full: try again later."""
    UNAVAILABLE = enum.auto()
    """The server is starting, draining or broken: try again later, or elsewhere."""
    EXPIRED = enum.auto()
    """The deadline passed."""
    INTERNAL = enum.auto()
    """The server is at fault."""


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

    def at(self, field: str, path: str) -> ServingError:
        """The same error; where an item's `field` is at fault, with that field's path in a call."""
        if self.field != field:
            return self
        return ServingError(self.kind, path + self.message.removeprefix(field), field=path)


class StartupError(Exception):
    """The server cannot start; the message is one line for the person who starts it."""


def invalid(field: str, problem: str) -> ServingError:
    """The error for a field of the request that is not accepted."""
    return ServingError(ErrorKind.INVALID, f"{field}: {problem}", field=field)


def internal() -> ServingError:
    """The error for a fault of the server. Its cause goes to the log, never to the caller."""
    return ServingError(ErrorKind.INTERNAL, "internal error")


def shutting_down() -> ServingError:
    """The error for a call, or the rest of a stream, that comes when the server ends."""
    return ServingError(ErrorKind.UNAVAILABLE, "the server is shutting down")


def expired() -> ServingError:
    """The error for a deadline that passed before the answer was ready."""
    return ServingError(ErrorKind.EXPIRED, "deadline exceeded")


def one_line(error: Exception) -> str:
    """The message of an error without line breaks."""
    return " ".join(str(error).split())
