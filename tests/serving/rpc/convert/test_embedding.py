"""Messages of EmbeddingService and the server's types: what is refused, chosen and rounded."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bundle.concepts import ConceptVocabulary
from serving.batching.item_results import EmbeddedItem, StageTimes, slowest
from serving.core.coverage import ItemCoverage
from serving.core.errors import ErrorKind, ServingError, invalid
from serving.core.limits import LimitsConfig
from serving.core.requests import ImageItem, ModelId, OutputSelection, TextItem
from serving.engines.outputs import OutputRow, Patches
from serving.rpc.convert import embedding as convert
from sparseclip.v1 import embedding_pb2, types_pb2
from tests.support.tiny_model import tiny_concepts

LIMITS = LimitsConfig(images_per_call=2, texts_per_call=3, id_bytes=4)
MODEL: Any = SimpleNamespace(
    id=ModelId(name="tiny", version="1"),
    concepts=ConceptVocabulary(tuple(tiny_concepts())),
    architecture=SimpleNamespace(grid=(1, 2)),
    nearest_captions=lambda row, count: (("a dog", 0.5), ("a cat", 0.25))[:count],
)
ITEM = ImageItem(id="a", data=b"x")


def image(name: str = "") -> embedding_pb2.EmbedInput:
    return embedding_pb2.EmbedInput(id=name, image=b"x")


def text(name: str = "") -> embedding_pb2.EmbedInput:
    return embedding_pb2.EmbedInput(id=name, text="x")


def embedded(patches: Patches | None = None) -> EmbeddedItem:
    row = OutputRow(
        indices=np.array([2, 5], dtype=np.uint32),
        values=np.array([0.5, 2.0], dtype=np.float32),
        active=3,
        norm=2.5,
        dense=np.array([1.0, -1.0], dtype=np.float32),
        patches=patches,
    )
    times = StageTimes(decode_s=0.0010004, queue_s=0.002, inference_s=0.003)
    return EmbeddedItem(row=row, times=times)


def test_a_call_keeps_the_order_of_its_items() -> None:
    request = embedding_pb2.EmbedRequest(
        model=types_pb2.ModelSelector(name="tiny", version="1"),
        inputs=[text("b"), image("a"), text()],
    )
    call = convert.embed_call(request, LIMITS)
    assert call.items == (TextItem(id="b", text="x"), ITEM, TextItem(id="", text="x"))
    assert (call.selector.name, call.selector.version) == ("tiny", "1")
    assert call.outputs == OutputSelection()  # the model decides what nothing means


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([], "inputs"),
        ([image()] * 3, "inputs"),
        ([text()] * 4, "inputs"),
        ([text("a"), image("a")], "inputs[1].id"),
        ([text("ééé")], "inputs[0].id"),
        ([text(), embedding_pb2.EmbedInput()], "inputs[1].content"),
    ],
)
def test_a_call_that_breaks_a_bound_names_the_field(inputs: list[Any], field: str) -> None:
    with pytest.raises(ServingError) as caught:
        convert.embed_call(embedding_pb2.EmbedRequest(inputs=inputs), LIMITS)
    assert (caught.value.kind, caught.value.field) == (ErrorKind.INVALID, field)


@pytest.mark.parametrize(
    "message", [None, embedding_pb2.EmbedStreamRequest(input=image("a"))], ids=["none", "an input"]
)
def test_a_stream_begins_with_its_start(message: Any) -> None:
    with pytest.raises(ServingError) as caught:
        convert.stream_start(message, LIMITS)
    assert caught.value.field == "start"


def test_a_concept_of_a_call_that_does_not_exist_is_invalid() -> None:
    assert convert.patch_ids(OutputSelection(patch_concepts=("dog", 7)), MODEL) == [5, 7]
    for ref in ("no such concept", 256):
        with pytest.raises(ServingError) as caught:
            convert.patch_ids(OutputSelection(patch_concepts=("dog", ref)), MODEL)
        assert caught.value.kind is ErrorKind.INVALID
        assert caught.value.field == "outputs.patch_concepts[1]"


def test_a_result_holds_what_was_selected() -> None:
    bare = convert.embed_result(ITEM, embedded(), OutputSelection(sparse=False), [], MODEL)
    assert (bare.id, bare.active, bare.timings.decode_us) == ("a", 3, 1000)
    assert not bare.HasField("sparse")
    assert not bare.dense
    patches = Patches(
        indices=np.array([[5, 2], [9, 5]]),
        values=np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
        complete=True,
    )
    selection = OutputSelection(sparse=True, top_concepts=1, dense=True)
    full = convert.embed_result(ITEM, embedded(patches), selection, [5], MODEL)
    assert list(full.sparse.indices) == [2, 5]
    assert full.sparse.norm == 2.5
    assert [(concept.name, concept.value) for concept in full.concepts] == [("dog", 2.0)]
    assert list(full.dense) == [1.0, -1.0]
    assert (full.patches.rows, full.patches.columns) == (1, 2)
    assert [(entry.concept_id, list(entry.values)) for entry in full.patches.maps] == [(5, [1, 4])]


def test_what_the_model_read_goes_with_the_result() -> None:
    read = ItemCoverage(framing="pad", image_share=0.5, ground=0, frames=2)
    result = convert.embed_result(
        ITEM, replace(embedded(), coverage=read), OutputSelection(captions=1), [], MODEL
    )
    assert result.coverage == types_pb2.Coverage(
        framing=types_pb2.IMAGE_FRAMING_PAD, image_share=0.5, ground=0, frames=2
    )
    assert [(entry.text, entry.similarity) for entry in result.captions] == [("a dog", 0.5)]
    text_item = TextItem(id="a", text="x")
    result = convert.embed_result(text_item, embedded(), OutputSelection(captions=1), [], MODEL)
    assert not result.captions
    assert not result.coverage.HasField("ground")


def test_options_reach_every_item() -> None:
    options = types_pb2.InputOptions(framing=types_pb2.IMAGE_FRAMING_CROP, refuse_long_texts=True)
    request = embedding_pb2.EmbedRequest(inputs=[image(), text()], options=options)
    first, second = convert.embed_call(request, LIMITS).items
    assert first == ImageItem(id="", data=b"x", framing="crop")
    assert second == TextItem(id="", text="x", refuse_long=True)


def test_more_captions_than_allowed_are_refused() -> None:
    selection = embedding_pb2.OutputSelection(captions=11)
    with pytest.raises(ServingError, match="must be at most 10") as caught:
        convert.outputs(selection, LIMITS)
    assert caught.value.field == "outputs.captions"


def test_an_item_that_failed_has_its_own_status() -> None:
    result = convert.embed_result(ITEM, invalid("image", "no"), OutputSelection(), [], MODEL)
    assert (result.id, result.status.code, result.status.message) == ("a", 3, "image: no")


def test_a_calls_times_are_the_longest_of_its_items() -> None:
    fast, slow = StageTimes(decode_s=3, queue_s=1), StageTimes(decode_s=1, inference_s=2)
    results = [EmbeddedItem(row=embedded().row, times=times) for times in (fast, slow)]
    expected = StageTimes(decode_s=3, queue_s=1, inference_s=2)
    assert slowest([*results, invalid("image", "no")]) == expected
    assert slowest([]) == StageTimes()
