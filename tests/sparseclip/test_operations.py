"""Operations without a server: what they send for an answer, and which answers they refuse."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from PIL import Image

from sparseclip import CallError, Item, Outputs
from sparseclip._batches import split_into_batches
from sparseclip._items import PreparedItem, prepare_item
from sparseclip._methods import Operation
from sparseclip._operations import Operations
from sparseclip.model_info import ServerLimits
from sparseclip.v1 import concepts_pb2, embedding_pb2, types_pb2
from tests.sparseclip.test_convert import INFO, TINY


def drive(operation: Operation[Any], *replies: Message) -> tuple[Any, list[Message]]:
    """Answers an operation's calls one by one; gives its result and the requests it sent."""
    requests = []
    try:
        call = next(operation)
        for reply in replies:
            requests.append(call.request)
            call = operation.send(reply)
    except StopIteration as stop:
        return stop.value, requests
    raise AssertionError(f"one call too many: {call}")


def described(version: str = "1") -> embedding_pb2.GetModelResponse:
    return embedding_pb2.GetModelResponse(
        model=types_pb2.ModelVersion(name="tiny", version=version), concepts=16 * int(version)
    )


def test_the_model_is_described_once() -> None:
    operations = Operations("tiny", "")
    info, [request] = drive(operations.known_info(), described())
    assert request.model.name == "tiny"  # type: ignore[attr-defined]
    assert drive(operations.known_info()) == (info, [])
    assert drive(operations.info_for(TINY)) == (info, [])


def test_another_version_is_described_anew() -> None:
    operations = Operations("tiny", "")
    drive(operations.known_info(), described())
    second = types_pb2.ModelVersion(name="tiny", version="2")
    info, [request] = drive(operations.info_for(second), described("2"))
    assert request.model.version == "2"  # type: ignore[attr-defined]
    assert info.concepts == 32
    third = types_pb2.ModelVersion(name="tiny", version="3")
    with pytest.raises(CallError, match="described another model"):
        drive(operations.info_for(third), described("2"))


def test_what_is_known_of_a_version_stays_when_another_has_answered() -> None:
    """A stream may go on with a version that the server no longer describes."""
    operations = Operations("tiny", "")
    first, _ = drive(operations.known_info(), described())
    second = types_pb2.ModelVersion(name="tiny", version="2")
    info, _ = drive(operations.info_for(second), described("2"))
    assert drive(operations.info_for(TINY)) == (first, [])
    assert drive(operations.known_info()) == (info, []), "an old stream says nothing of what is new"


def answered(version: str, count: int = 1) -> embedding_pb2.EmbedResponse:
    results = [embedding_pb2.EmbedResult(id=str(n)) for n in range(count)]
    for result in results:
        result.sparse.indices[:], result.sparse.values[:], result.sparse.norm = [1], [1.0], 1.0
    return embedding_pb2.EmbedResponse(
        model=types_pb2.ModelVersion(name="tiny", version=version), results=results
    )


def test_what_a_model_is_for_is_the_servers_choice() -> None:
    """The current model may have become a dense or a sparse one since it was described."""
    operations = Operations("tiny", "")
    _, [_, request] = drive(operations.embed([], ["a"], Outputs()), described(), answered("1"))
    assert not request.outputs.ListFields()  # type: ignore[attr-defined]
    dense = described("2")
    dense.kind = embedding_pb2.MODEL_KIND_DENSE
    both = operations.embed([], ["a"], Outputs(dense=True))
    _, [_, request] = drive(both, dense, answered("2"))
    chosen = request.outputs  # type: ignore[attr-defined]
    assert (chosen.sparse, chosen.dense) == (False, True)


def test_pixels_are_sent_again_for_a_model_that_reads_more_of_them() -> None:
    small, large = described(), described("2")
    for info, size in ((small, 4), (large, 8)):
        info.image_size, info.interpolation = size, types_pb2.IMAGE_INTERPOLATION_BICUBIC
        info.limits.message_bytes, info.limits.images_per_call = 2**20, 2
    operation = Operations("tiny", "").embed(
        [np.zeros((16, 16, 3), dtype=np.uint8), b"file"], [], Outputs()
    )
    replies = (small, answered("2", 2), large, answered("2", 2))
    embeddings, [_, first, _, second] = drive(operation, *replies)
    sides = []
    for request in (first, second):
        array, file = (entry.image for entry in request.inputs)  # type: ignore[attr-defined]
        sides.append(Image.open(io.BytesIO(array)).size)
        assert file == b"file"
    assert sides == [(4, 4), (8, 8)]
    assert [embedding.width for embedding in embeddings] == [32, 32]


def test_a_classification_begins_again_when_the_model_is_replaced() -> None:
    operation = Operations("tiny", "").classify([b"x"], ["a"], ["{}"], None, False)
    replies = (described(), answered("1"), answered("2"), described("2"))
    [answer], requests = drive(operation, *replies, answered("2"), answered("2"))
    assert answer.label == "a"
    assert len(requests) == 6


def test_results_must_fit_the_items() -> None:
    operations = Operations("tiny", "")
    wrong = embedding_pb2.EmbedResponse(model=TINY, results=[embedding_pb2.EmbedResult(id="7")])
    with pytest.raises(CallError, match="do not fit the items"):
        drive(operations.embed([], ["a"], Outputs()), described(), wrong)


def test_a_reply_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="GetConcept: the reply has another type"):
        drive(Operations("", "").get_concept(1), concepts_pb2.ListConceptsResponse())


def prepared(*items: Item) -> list[PreparedItem]:
    return [prepare_item(item, INFO, None, n) for n, item in enumerate(items)]


def limits(**values: int) -> ServerLimits:
    names = ServerLimits.__dataclass_fields__
    return ServerLimits(**(dict.fromkeys(names, 0) | {"message_bytes": 2**20} | values))


def test_batches_keep_the_order_and_the_limits() -> None:
    images = [Item(source=f"i{n}", image=b"x") for n in range(3)]
    texts = [Item(source=f"t{n}", text="x") for n in range(3)]
    items = prepared(images[0], texts[0], images[1], images[2], texts[1], texts[2])
    allowed = limits(images_per_call=2, texts_per_call=2)
    batches = list(split_into_batches(items, allowed))
    sources = [[entry.item.source for entry in batch] for batch in batches]
    assert sources == [["i0", "t0", "i1"], ["i2", "t1", "t2"]]


def test_a_batch_stays_below_the_size_of_a_message() -> None:
    items = prepared(*(Item(source="", image=bytes(600)) for _ in range(4)))
    allowed = limits(message_bytes=64 * 1024 + 1300, images_per_call=9, texts_per_call=9)
    assert [len(batch) for batch in split_into_batches(items, allowed)] == [2, 2]


def test_an_item_alone_is_sent_even_by_limits_of_zero() -> None:
    items = prepared(Item(source="", text="a"), Item(source="", text="b"))
    assert [len(batch) for batch in split_into_batches(items, limits(message_bytes=0))] == [1, 1]
