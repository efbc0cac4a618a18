"""What a caller may give as an image, and how it becomes bytes. Never by fetching an address."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import grpc

from sparseclip.errors import ItemStatus
from sparseclip.results import ServerLimits
from sparseclip.v1 import embedding_pb2

_ADDRESS = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+:/", re.ASCII)


class ImageObject(Protocol):
    """An image in memory, such as a PIL image: anything that can save itself as PNG."""

    def save(self, fp: io.BytesIO, format: str) -> None:
        """Writes the image to `fp` in the named format."""


ImageInput = bytes | str | PathLike[str] | ImageObject


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or one text to embed."""

    source: str
    image: ImageInput | None = None
    """Read only when the item is about to be sent."""
    text: str | None = None


class ItemError(ValueError):
    """An item that cannot be sent; it becomes that item's status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = ItemStatus(code=code, message=message)


def is_address(text: str) -> bool:
    """The text is a URL of any scheme rather than a path."""
    return bool(_ADDRESS.match(text))


def items_from(images: Sequence[ImageInput], texts: Sequence[str]) -> list[Item]:
    """Images first, then texts, each with a source that names it."""
    if isinstance(images, bytes | str | PathLike) or isinstance(texts, str):
        raise TypeError("images and texts must be lists")
    return [
        *(image_item(image, number) for number, image in enumerate(images)),
        *(Item(source=text, text=text) for text in texts),
    ]


def image_item(image: ImageInput | Item, number: int) -> Item:
    """An Item as it is; anything else as the image of an item."""
    if isinstance(image, Item):
        return image
    named = isinstance(image, str | PathLike)
    return Item(source=str(image) if named else f"image[{number}]", image=image)


def read_image(image: ImageInput) -> bytes:
    """The image's encoded bytes.

    Raises ItemError: an address, or a file that cannot be read.
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


def to_input(item: Item, limits: ServerLimits, *, key: str) -> embedding_pb2.EmbedInput:
    """The message for an item.

    Raises ItemError when it cannot be read, or is too large for any call of this server.
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
class Prepared:
    """An item at its place, with its message or the reason why it has none."""

    position: int
    item: Item
    message: embedding_pb2.EmbedInput | None
    status: ItemStatus


def prepare(items: Iterable[Item], limits: ServerLimits) -> Iterable[Prepared]:
    """Reads items one by one, as they are asked for."""
    for position, item in enumerate(items):
        yield prepare_one(item, limits, position)


def prepare_one(item: Item, limits: ServerLimits, position: int) -> Prepared:
    """Reads one item; a failure becomes its status."""
    try:
        message = to_input(item, limits, key=str(position))
    except ItemError as error:
        return Prepared(position=position, item=item, message=None, status=error.status)
    return Prepared(position=position, item=item, message=message, status=ItemStatus())
