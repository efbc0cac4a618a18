"""What a caller gives to be embedded, and how it becomes a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

import grpc
import numpy as np

from sparseclip._arguments import whole_number
from sparseclip._image_files import ImageInput, is_missing, read_image
from sparseclip.concepts import ConceptKey
from sparseclip.errors import ItemError, ItemStatus
from sparseclip.model_info import ModelInfo
from sparseclip.results import Embedding, ImageFraming
from sparseclip.v1 import embedding_pb2


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image or one text to embed."""

    source: str
    """A name for the item, which its answer repeats."""
    image: ImageInput | None = None
    """A path or a file is read only when the item is about to be sent."""
    text: str | None = None
    """Used when there is no image."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What to compute for every item. Raises ValueError for a number out of range."""

    sparse: bool | None = None
    """The sparse code: indices, values and norm. None: what the model is for, which is the code, or
    the dense vector of a dense model. A dense model refuses True, and whatever else is about
    concepts. With `dense` it is what the model was for when the call began."""
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
        whole_number(self.top_concepts, "top_concepts")
        if whole_number(self.captions, "captions") > 10:
            raise ValueError("captions: must be 0 to 10")


def items_from(images: Sequence[ImageInput], texts: Sequence[str]) -> list[Item]:
    """Images first, then texts, each with a source that names it.

    An entry that is no image or no text stays in the list and fails alone. Raises TypeError when
    one of them is a lone image or text instead of a list.
    """
    if _is_lone(images) or isinstance(texts, str):
        raise TypeError("images and texts must be lists")
    return [
        *(image_item(image, position) for position, image in enumerate(images)),
        *(
            Item(source=text if isinstance(text, str) else f"text[{position}]", text=text)
            for position, text in enumerate(texts)
        ),
    ]


def check_image_list(images: object) -> None:
    """Raises TypeError for one image in place of a list of them, and for what is no list."""
    if _is_lone(images) or not isinstance(images, Iterable):
        raise TypeError("images: must be a list")


def _is_lone(images: object) -> bool:
    """Whether this is one image in place of a list of them."""
    if isinstance(images, np.ndarray):  # a batch of arrays, and a column of paths, are lists
        return images.dtype == np.uint8 and images.ndim in (2, 3)
    return isinstance(images, str | PathLike | bytes | bytearray | memoryview) or any(
        hasattr(images, name) for name in ("read", "save")
    )


def image_item(image: ImageInput | Item | None, position: int) -> Item:
    """Makes an item of an image, with its path or `image[position]` as the source."""
    if isinstance(image, Item):
        return image
    if image is None:  # the empty cell of a table; an Item without an image is a text
        image = b""
    has_path = isinstance(image, str | PathLike)
    return Item(source=str(image) if has_path else f"image[{position}]", image=image)


def item_to_proto(
    item: Item, info: ModelInfo, framing: ImageFraming | None, *, key: str
) -> embedding_pb2.EmbedInput:
    """The message for an item, with `key` as its id.

    Raises ItemError when the item cannot be read, or is larger than the server accepts.
    """
    if item.image is not None:
        return embedding_pb2.EmbedInput(id=key, image=read_image(item.image, info, framing))
    return embedding_pb2.EmbedInput(id=key, text=_check_text(item.text, info.limits.text_bytes))


def _check_text(text: object, limit: int) -> str:
    if is_missing(text):
        raise _refused("text: must not be empty")
    if not isinstance(text, str):
        raise _refused("text: must be a string")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _refused("text: not valid Unicode") from None
    if limit and size > limit:
        raise _refused(f"text: more than {limit} bytes")
    return text


def _refused(message: str) -> ItemError:
    return ItemError(grpc.StatusCode.INVALID_ARGUMENT, message)


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


def prepare_item(
    item: Item, info: ModelInfo, framing: ImageFraming | None, position: int
) -> PreparedItem:
    """Reads one item. If that fails, the reason becomes the item's status."""
    try:
        message = item_to_proto(item, info, framing, key=str(position))
    except ItemError as error:
        return PreparedItem(position=position, item=item, message=None, status=error.status)
    return PreparedItem(position=position, item=item, message=message, status=ItemStatus())
