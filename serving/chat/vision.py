"""What the vision model makes of a conversation: images to patch codes, phrases to concepts."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.chat.code_cache import CachedCodes, CodeCache
from serving.chat.requests import ChatCall, Phrase, SteeredImage
from serving.chat.resolve_edits import PhraseCodes
from serving.core.errors import ServingError, internal, invalid
from serving.core.metrics import ChatMetrics
from serving.core.requests import EmbedItem, ImageItem, ItemResult, StageTimes, TextItem, slowest

_PHRASE_BYTES = 8 * 2**20


class EmbedItems(Protocol):
    """Model.embed."""

    def __call__(
        self, items: Sequence[EmbedItem], deadline: float, *, patches: bool = False
    ) -> Awaitable[list[ItemResult]]: ...


@dataclass(frozen=True, kw_only=True)
class ConversationCodes:
    """One conversation's images and phrases."""

    codes: Mapping[bytes, CachedCodes]
    """By the digest of the image."""
    phrases: PhraseCodes
    times: StageTimes
    """Of the image that took longest in each stage; zeros where none was new."""


class VisionEncoder:
    """Asks the vision model, and remembers the images and phrases seen last."""

    def __init__(self, embed: EmbedItems, concepts: int, metrics: ChatMetrics) -> None:
        self._embed = embed
        self._concepts = concepts
        self._metrics = metrics
        self._images = CodeCache()
        self._phrases = CodeCache(_PHRASE_BYTES)

    async def look(
        self, call: ChatCall, digests: Sequence[bytes], deadline: float
    ) -> ConversationCodes:
        """All that a conversation shows and names. Raises ServingError naming the image."""
        places: dict[bytes, SteeredImage] = {}
        for image, digest in zip(call.images, digests, strict=True):
            places.setdefault(digest, image)
        images = {digest: self._images.get(digest) for digest in places}
        phrases = {phrase: self._phrases.get(phrase.encode()) for phrase in _phrases(call)}
        unseen = [digest for digest, codes in images.items() if codes is None]
        unread = [phrase for phrase, codes in phrases.items() if codes is None]
        self._metrics.images.labels("encoded").inc(len(unseen))
        self._metrics.images.labels("kept").inc(len(images) - len(unseen))
        items: list[EmbedItem] = [ImageItem(id="", data=places[digest].data) for digest in unseen]
        items += [TextItem(id="", text=phrase) for phrase in unread]
        results = await self._embed(items, deadline, patches=True) if items else []
        for digest, result in zip(unseen, results, strict=False):
            images[digest] = codes = _image(result, places[digest].at)
            self._images.put(digest, codes)
        for phrase, result in zip(unread, results[len(unseen) :], strict=True):
            phrases[phrase] = codes = _phrase(result)
            self._phrases.put(phrase.encode(), codes)
        return ConversationCodes(
            codes={digest: codes for digest, codes in images.items() if codes is not None},
            phrases={
                phrase: codes.dense(self._concepts)
                for phrase, codes in phrases.items()
                if codes is not None
            },
            times=slowest(results[: len(unseen)]),
        )


def _phrases(call: ChatCall) -> list[str]:
    """Each phrase once."""
    targets = [edit.target for image in call.images for edit in image.edits]
    return list(dict.fromkeys(target.text for target in targets if isinstance(target, Phrase)))


def _image(result: ItemResult, at: str) -> CachedCodes:
    """An image's codes. Raises its error, with the path of the image in the request."""
    if isinstance(result, ServingError):
        if result.field == "image":
            raise invalid(f"{at}.data", result.message.removeprefix("image: "))
        raise result
    if result.row.patches is None:
        raise internal()
    return CachedCodes.of(result.row.patches)


def _phrase(result: ItemResult) -> CachedCodes:
    if isinstance(result, ServingError):
        raise result
    return CachedCodes.of_text(result.row)
