"""What a call of Embed holds, said in its headers.

A server that is full can then refuse the call before it reads a byte of its message. The header is
optional, and the message alone decides what is embedded. It speaks of the default model: a call
that names a model sends none.
"""

from __future__ import annotations

from collections import Counter

from sparseclip.v1.embedding_pb2 import EmbedRequest

ITEMS_HEADER = "sparseclip-items"
"""`image=3,text=1`: how many items each graph gets. The graphs are `image`, `patches` (images whose
patch maps are asked for) and `text`."""

_MOST_DIGITS = 6


def announce(request: EmbedRequest) -> tuple[tuple[str, str], ...]:
    """The header of a call, if it may have one."""
    if request.model.name or request.model.version:
        return ()
    images = "patches" if request.outputs.patch_concepts else "image"
    counts = Counter(
        images if entry.WhichOneof("content") == "image" else "text" for entry in request.inputs
    )
    return ((ITEMS_HEADER, ",".join(f"{graph}={count}" for graph, count in counts.items())),)


def announced(value: str) -> dict[str, int]:
    """The items of each graph in a header's value; without what is not of the header's form."""
    items = {}
    for entry in value.split(","):
        graph, _, count = entry.partition("=")
        if count.isdecimal() and count.isascii() and len(count) <= _MOST_DIGITS:
            items[graph] = int(count)
    return items
