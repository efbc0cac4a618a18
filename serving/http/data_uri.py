"""Images in JSON: data URIs. An address is never fetched."""

from __future__ import annotations

import re

from serving.core.errors import invalid
from serving.http.json_messages import decode_base64

_HEAD = re.compile(
    r"data:(?:image/[\w.+-]+|application/octet-stream)?(?:;[\w=.+-]+)*;base64,", re.I
)
_MAX_HEAD = 200
"""Characters before the data."""


def image_of(uri: str, path: str) -> bytes:
    """The bytes of an image in a data URI.

    Raises ServingError naming the field for anything else, such as an address of the web. What is
    in the bytes is looked at later: the type that a caller gives says nothing.
    """
    head = _HEAD.match(uri, 0, _MAX_HEAD)
    if head is None:
        if uri[:5].lower() == "data:":
            raise invalid(path, "must be a data URI of an image in base64")
        raise invalid(path, "must be a data URI: this server never fetches an address")
    return decode_base64(uri[head.end() :], path)
