"""How many items one call of a server may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sparseclip._items import PreparedItem
from sparseclip.model_info import ServerLimits

# Bytes of a message that are kept free for what surrounds the items: ids, lengths, the selection.
_ENVELOPE_BYTES = 64 * 1024


def split_into_batches(
    items: Iterable[PreparedItem], limits: ServerLimits
) -> Iterator[list[PreparedItem]]:
    """Splits items, in their order, into lists that one call of this server may hold."""
    batch: list[PreparedItem] = []
    images = texts = size = 0
    for prepared in items:
        is_image = prepared.item.image is not None
        length = 0 if prepared.message is None else prepared.message.ByteSize()
        full = (
            images + is_image > max(1, limits.images_per_call)
            or texts + (not is_image) > max(1, limits.texts_per_call)
            or size + length > limits.message_bytes - _ENVELOPE_BYTES
        )
        if full and batch:
            yield batch
            batch, images, texts, size = [], 0, 0, 0
        batch.append(prepared)
        images, texts, size = images + is_image, texts + (not is_image), size + length
    if batch:
        yield batch
