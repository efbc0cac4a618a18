"""The vision side of a conversation: its images become patch codes, its phrases concepts."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.batching.item_results import ItemResult, StageTimes, slowest
from serving.chat.chat_request import ChatCall, Phrase, SteeredImage
from serving.chat.code_cache import PHRASE_CACHE_BYTES, CachedCodes, CodeCache
from serving.chat.resolve_edits import PhraseCodes
from serving.core.coverage import ItemCoverage
from serving.core.errors import ServingError, internal
from serving.core.metrics import ChatMetrics
from serving.core.requests import EmbedItem, ImageItem, TextItem


class EmbedItems(Protocol):
    """See ServedModel.embed."""

    def __call__(
        self, items: Sequence[EmbedItem], deadline: float, *, patches: bool = False
    ) -> Awaitable[list[ItemResult]]: ...


@dataclass(frozen=True, kw_only=True)
class ConversationCodes:
    """The codes of one conversation's images and phrases."""

    images: Mapping[bytes, CachedCodes]
    """By the digest of the image."""
    phrases: PhraseCodes
    times: StageTimes
    """The longest time of any image, stage by stage; zeros when all came from the cache."""
    phrase_coverages: Mapping[str, ItemCoverage] = field(default_factory=dict)
    """What the text tower read of each phrase."""


class VisionEncoder:
    """Encodes images and phrases with the vision model, and caches the codes used last."""

    def __init__(self, embed: EmbedItems, concepts: int, metrics: ChatMetrics) -> None:
        self._embed = embed
        self._concepts = concepts
        self._metrics = metrics
        self._images = CodeCache()
        self._phrases = CodeCache(PHRASE_CACHE_BYTES)

    async def encode(
        self, call: ChatCall, digests: Sequence[bytes], deadline: float
    ) -> ConversationCodes:
        """The codes of all images and phrases of a call; `digests` are those of its images.

        Raises ServingError naming the image or the phrase.
        """
        by_digest: dict[bytes, SteeredImage] = {}
        for image, digest in zip(call.images, digests, strict=True):
            by_digest.setdefault(digest, image)
        images = {digest: self._images.get(digest) for digest in by_digest}
        at = _phrases(call)
        phrases = {phrase: self._phrases.get(phrase.encode()) for phrase in at}
        new_images = [digest for digest, codes in images.items() if codes is None]
        new_phrases = [phrase for phrase, codes in phrases.items() if codes is None]
        self._metrics.images.labels("encoded").inc(len(new_images))
        self._metrics.images.labels("kept").inc(len(images) - len(new_images))
        # All that is new goes into one call, so that it shares one admission and its runs.
        items: list[EmbedItem] = [
            ImageItem(id="", data=by_digest[d].data, framing=by_digest[d].framing)
            for d in new_images
        ]
        items += [TextItem(id="", text=phrase) for phrase in new_phrases]
        results = await self._embed(items, deadline, patches=True) if items else []
        image_results, phrase_results = results[: len(new_images)], results[len(new_images) :]
        for digest, result in zip(new_images, image_results, strict=True):
            images[digest] = codes = _image_codes(result, by_digest[digest].at)
            self._images.put(digest, codes)
        for phrase, result in zip(new_phrases, phrase_results, strict=True):
            phrases[phrase] = codes = _phrase_codes(result, at[phrase])
            self._phrases.put(phrase.encode(), codes)
        return ConversationCodes(
            images={digest: codes for digest, codes in images.items() if codes is not None},
            phrases={
                phrase: codes.dense(self._concepts)
                for phrase, codes in phrases.items()
                if codes is not None
            },
            times=slowest(image_results),
            phrase_coverages={
                phrase: codes.coverage for phrase, codes in phrases.items() if codes is not None
            },
        )


def _phrases(call: ChatCall) -> dict[str, str]:
    """The distinct phrases of a call, in order, with the path of the first edit that has each."""
    paths: dict[str, str] = {}
    for image in call.images:
        for i, edit in enumerate(image.edits):
            if isinstance(edit.target, Phrase):
                paths.setdefault(edit.target.text, f"{image.at}.steering.edits[{i}].phrase")
    return paths


def _image_codes(result: ItemResult, at: str) -> CachedCodes:
    """An image's codes. Raises the image's error, with its path in the request."""
    if isinstance(result, ServingError):
        raise result.at("image", f"{at}.data")
    if result.row.patches is None:
        raise internal()
    return CachedCodes.from_patches(result.row.patches, result.coverage)


def _phrase_codes(result: ItemResult, at: str) -> CachedCodes:
    """A phrase's codes. Raises the phrase's error, with its path in the request."""
    if isinstance(result, ServingError):
        raise result.at("text", at)
    return CachedCodes.from_text(result.row, result.coverage)
