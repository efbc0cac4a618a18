"""What a caller gives to be embedded, and how it becomes a message. Addresses are never fetched."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import grpc

from sparseclip.concepts import ConceptKey
from sparseclip.errors import ItemStatus
from sparseclip.results import Embedding, ServerLimits
from sparseclip.v1 import embedding_pb2

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/", re.ASCII)


class ImageObject(Protocol):
    """An image in memory that can save itself as PNG, such as a PIL image."""

    def save(self, fp: io.BytesIO, format: str) -> None:
        """Writes the image to `fp` in the named format."""


ImageInput = bytes | str | PathLike[str] | ImageObject
"""An image: the bytes of a JPEG, PNG or WebP file, the path of one, or an object such as a PIL
image, which is sent as PNG."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or one text to embed."""

    source: str
    """A name for the item, which its answer repeats."""
    image: ImageInput | None = None
    """A path is read only when the item is about to be sent."""
    text: str | None = None
    """Used when there is no image."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to compute for every item. Raises ValueError for a number out of range."""

    sparse: bool = True
    """The sparse code: indices, values and norm."""
    top_concepts: int = 0
    """How many of the strongest concepts to name."""
    dense: bool = False
    """The dense vector (D,), in a space that images and texts share. The call fails with
    FAILED_PRECONDITION where the model has none: its `dense_dim` is then 0."""
    patch_concepts: tuple[ConceptKey, ...] = ()
    """Concepts whose activation on every patch of an image is wanted."""
    captions: int = 0
    """How many of the training captions nearest to an image to send; at most 10."""

    def __post_init__(self) -> None:
        if self.top_concepts < 0:
            raise ValueError("top_concepts: must not be negative")
        if not 0 <= self.captions <= 10:
            raise ValueError("captions: must be 0 to 10")


class ItemError(ValueError):
    """An item that cannot be sent. It becomes the status of that item."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = ItemStatus(code=code, message=message)


def is_address(text: str) -> bool:
    """The text is a URL of any scheme rather than a path."""
    return bool(_ADDRESS.match(text))


def items_from(images: Sequence[ImageInput], texts: Sequence[str]) -> list[Item]:
    """Images first, then texts, each with a source that names it.

    Raises TypeError when one of them is a lone image or text instead of a list.
    """
    if isinstance(images, bytes | str | PathLike) or isinstance(texts, str):
        raise TypeError("images and texts must be lists")
    return [
        *(image_item(image, position) for position, image in enumerate(images)),
        *(Item(source=text, text=text) for text in texts),
    ]


def image_item(image: ImageInput | Item, position: int) -> Item:
    """Makes an item of an image, with its path or `image[position]` as the source."""
    if isinstance(image, Item):
        return image
    has_path = isinstance(image, str | PathLike)
    return Item(source=str(image) if has_path else f"image[{position}]", image=image)


def read_image(image: ImageInput) -> bytes:
    """The bytes of an image file.

    Raises ItemError for an address and for a file that cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | PathLike):
        if is_address(str(image)):
            raise ItemError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "addresses are not fetched: give the path of a file",
            )
        try:
            return Path(image).read_bytes()
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise ItemError(grpc.StatusCode.NOT_FOUND, f"image: {reason}") from None
        except ValueError:
            raise ItemError(grpc.StatusCode.INVALID_ARGUMENT, "image: not a path") from None
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def item_to_proto(item: Item, limits: ServerLimits, *, key: str) -> embedding_pb2.EmbedInput:
    """The message for an item, with `key` as its id.

    Raises ItemError when the item cannot be read, or is larger than the server accepts.
    """
    if item.image is not None:
        data = read_image(item.image)
        _check_size("image", len(data), limits.image_bytes)
        return embedding_pb2.EmbedInput(id=key, image=data)
    text = item.text or ""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ItemError(grpc.StatusCode.INVALID_ARGUMENT, "text: not valid Unicode") from None
    _check_size("text", size, limits.text_bytes)
    return embedding_pb2.EmbedInput(id=key, text=text)


def _check_size(field: str, size: int, limit: int) -> None:
    if limit and size > limit:
        raise ItemError(
            grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {size} bytes, at most {limit} are accepted"
        )


@dataclass(frozen=True, kw_only=True)
class PreparedItem:
    """An item with its position among all items, and its message if it can be sent."""

    position: int
    item: Item
    message: embedding_pb2.EmbedInput | None
    """None when the item cannot be sent; `status` says why."""
    status: ItemStatus

    def failure(self) -> Embedding:
        """The answer to an item that cannot be sent."""
        return Embedding(source=self.item.source, status=self.status)


def prepare_items(items: Iterable[Item], limits: ServerLimits) -> Iterator[PreparedItem]:
    """Reads items one by one, as they are asked for."""
    for position, item in enumerate(items):
        yield prepare_item(item, limits, position)


def prepare_item(item: Item, limits: ServerLimits, position: int) -> PreparedItem:
    """Reads one item. If that fails, the reason becomes the item's status."""
    try:
        message = item_to_proto(item, limits, key=str(position))
    except ItemError as error:
        return PreparedItem(position=position, item=item, message=None, status=error.status)
    return PreparedItem(position=position, item=item, message=message, status=ItemStatus())
