"""Why the header of an image is not accepted."""

from __future__ import annotations


class HeaderError(ValueError):
    """Bytes that are no complete header of their format, or one that cannot be true."""


class UnsupportedVariantError(ValueError):
    """A rare variant of a format that is otherwise decoded; the message names it."""
