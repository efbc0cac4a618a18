"""Images and phrases of conversations: encoded once, kept by their bytes, errors by their path."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from serving.batching.item_results import EmbeddedItem, ItemResult, StageTimes
from serving.chat.chat_request import (
    ChatCall,
    ConversationTurn,
    Phrase,
    RequestedEdit,
    SamplingRequest,
    SteeredImage,
)
from serving.chat.image_codes import VisionEncoder
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.metrics import Metrics
from serving.core.requests import EmbedItem, ImageItem, ModelSelector
from serving.engines.outputs import OutputRow, Patches

CONCEPTS = 16


class Embedder:
    """Stands for ServedModel.embed; an image of bytes `broken` fails."""

    def __init__(self) -> None:
        self.calls: list[list[EmbedItem]] = []

    async def __call__(
        self, items: Sequence[EmbedItem], deadline: float, *, patches: bool = False
    ) -> list[ItemResult]:
        assert patches
        self.calls.append(list(items))
        return [self._result(item) for item in items]

    def _result(self, item: EmbedItem) -> ItemResult:
        is_image = isinstance(item, ImageItem)
        if is_image and item.data == b"broken":  # type: ignore[union-attr]
            return invalid("image", "truncated or corrupt")
        codes = Patches(
            indices=np.array([[1, 2], [3, 0]]),
            values=np.array([[1.0, 0.5], [2.0, 0.0]], dtype=np.float32),
            complete=True,
        )
        row = OutputRow(
            indices=np.array([4, 9], dtype=np.uint32),
            values=np.array([0.5, 1.5], dtype=np.float32),
            active=2,
            norm=1.0,
            dense=np.zeros(2, dtype=np.float32),
            patches=codes if is_image else None,
        )
        return EmbeddedItem(row=row, times=StageTimes(decode_s=1.0 if is_image else 5.0))


def call(*images: bytes, phrases: Sequence[str] = ()) -> ChatCall:
    edits = tuple(RequestedEdit(target=Phrase(text=phrase), op="SET") for phrase in phrases)
    turn = ConversationTurn(
        role="user",
        text="What?",
        images=tuple(
            SteeredImage(data=data, edits=edits, strength=1.0, at=f"messages[0].images[{i}]")
            for i, data in enumerate(images)
        ),
    )
    sampling = SamplingRequest(max_tokens=0, temperature=0, top_p=1, seed=0)
    return ChatCall(selector=ModelSelector(), turns=(turn,), sampling=sampling)


def digests(chat: ChatCall) -> list[bytes]:
    return [hashlib.sha256(image.data).digest() for image in chat.images]


async def test_what_is_new_is_one_call_and_what_was_encoded_none() -> None:
    embedder, metrics = Embedder(), Metrics()
    encoder = VisionEncoder(embedder, CONCEPTS, metrics.chat)
    chat = call(b"a", b"b", b"a", phrases=["dog", "cat"])
    codes = await encoder.encode(chat, digests(chat), 0.0)
    [items] = embedder.calls
    assert len(items) == 4  # two distinct images, two phrases
    assert set(codes.images) == set(digests(chat))
    assert codes.phrases["dog"][[4, 9]].tolist() == [0.5, 1.5]
    assert codes.phrases["dog"].sum() == 2.0
    assert codes.times == StageTimes(decode_s=1.0)  # of images, not of phrases
    again = await encoder.encode(chat, digests(chat), 0.0)
    assert len(embedder.calls) == 1
    assert again.times == StageTimes()
    other = call(b"c", phrases=["dog"])
    await encoder.encode(other, digests(other), 0.0)
    assert [item.id for item in embedder.calls[1]] == [""]
    samples = {"encoded": 3.0, "kept": 2.0}
    for source, count in samples.items():
        name, labels = "sparseclip_chat_images_total", {"codes": source}
        assert metrics.registry.get_sample_value(name, labels) == count


async def test_an_image_that_fails_is_named_by_its_path_and_not_kept() -> None:
    embedder = Embedder()
    encoder = VisionEncoder(embedder, CONCEPTS, Metrics().chat)
    chat = call(b"a", b"broken")
    for attempt in range(2):
        with pytest.raises(ServingError) as caught:
            await encoder.encode(chat, digests(chat), 0.0)
        assert caught.value.kind is ErrorKind.INVALID
        assert caught.value.field == "messages[0].images[1].data"
        assert "truncated or corrupt" in caught.value.message
        assert len(embedder.calls) == attempt + 1
    assert len(embedder.calls[1]) == 1  # the image before it was kept
