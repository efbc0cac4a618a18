"""The fields of a request as its caller wrote them, where the services know them by other names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from serving.core.errors import ServingError


class FieldPaths:
    """Which field of the wire contract stands for which of the caller's."""

    def __init__(self) -> None:
        self._theirs: dict[str, str] = {}

    def add(self, ours: str, theirs: str) -> None:
        """`ours` is the path in the message of the contract, `theirs` that in the caller's body."""
        self._theirs[ours] = theirs

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Errors that leave the block name the caller's fields."""
        try:
            yield
        except ServingError as error:
            raise self.rename(error) from None

    def rename(self, error: ServingError) -> ServingError:
        """The same error, its field named as the caller did."""
        ours = max(
            (path for path in self._theirs if _begins(error.field, path)), key=len, default=None
        )
        if ours is None:
            return error
        field = (self._theirs[ours] + error.field[len(ours) :]).removeprefix(".")
        message = error.message
        if message.startswith(error.field):
            message = field + message[len(error.field) :]
        return ServingError(error.kind, message, field=field, retry_after=error.retry_after)


def _begins(field: str, path: str) -> bool:
    return field.startswith(path) and field[len(path) : len(path) + 1] in ("", ".", "[")
