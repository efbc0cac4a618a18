"""What can go wrong: a call as a whole (CallError) or one item of a call (ItemStatus)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, kw_only=True)
class FieldViolation:
    """A field of a request that the server refused, and why."""

    field: str
    """The path of the field, such as `inputs[3].image`."""
    description: str


@dataclass(frozen=True, kw_only=True)
class ItemStatus:
    """How one item of a call went."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    """Why the item failed; empty when it succeeded."""

    @property
    def ok(self) -> bool:
        """The item succeeded."""
        return self.code is grpc.StatusCode.OK


class ItemError(ValueError):
    """An item that cannot be sent. It becomes the status of that item."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = ItemStatus(code=code, message=message)


class CallError(Exception):
    """A call failed as a whole.

    `code` is its status and `message` the server's words. `violations` lists the fields that the
    server refused (google.rpc.BadRequest). `retry_after` is the number of seconds after which the
    server invites another attempt (google.rpc.RetryInfo), or None.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        violations: tuple[FieldViolation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violations = violations
        self.retry_after = retry_after

    def __str__(self) -> str:
        fields = "; ".join(
            f"{violation.field}: {violation.description}"
            for violation in self.violations
            if violation.description != self.message
        )
        return f"{self.code.name}: {self.message}" + (f" ({fields})" if fields else "")

    @classmethod
    def from_rpc(cls, error: grpc.RpcError) -> CallError:
        """Reads a failed call of grpc or grpc.aio, with its google.rpc details if it has any."""
        code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
        if code is None:
            return cls(grpc.StatusCode.UNKNOWN, "the call failed without a status")
        message = error.details() or ""
        if code is grpc.StatusCode.INTERNAL and message == "Internal error from Core":
            # grpc.aio puts this in place of the status when the server still had messages to
            # send (grpc issue 36066). The real status is lost. Most often the server has gone
            # away, so that another attempt is right; attempts are bounded if it is not.
            return cls(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
        if code is grpc.StatusCode.CANCELLED and message == "CANCELLED":
            # gRPC's word for a call that ended without a status: the server ended before it had
            # looked at the call. Calls that this side cancels have other words.
            return cls(grpc.StatusCode.UNAVAILABLE, "the server ended the call")
        # Both flavours of grpc give pairs here; only one of them says so in its types.
        metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
        violations: list[FieldViolation] = []
        retry_after = None
        for detail in _details(metadata):
            bad_request = BadRequest()
            retry_info = RetryInfo()
            if detail.Unpack(bad_request):
                violations += (
                    FieldViolation(field=violation.field, description=violation.description)
                    for violation in bad_request.field_violations
                )
            elif detail.Unpack(retry_info):
                delay = retry_info.retry_delay
                retry_after = max(0.0, delay.seconds + delay.nanos * 1e-9)
        return cls(code, message, violations=tuple(violations), retry_after=retry_after)


def status_code(number: int) -> grpc.StatusCode:
    """The status code of a number; UNKNOWN for a number that gRPC does not define."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def _details(metadata: Iterable[tuple[str, str | bytes]]) -> list[any_pb2.Any]:
    """The google.rpc details of a failed call; none when the metadata holds none or is broken."""
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(Status.FromString(value).details)
            except DecodeError:
                return []
    return []
