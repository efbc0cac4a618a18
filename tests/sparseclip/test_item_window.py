"""The window of a bulk stream without any stream: bounds, order, resending, deadlines."""

from __future__ import annotations

import grpc
import pytest

from sparseclip import CallError, ItemStatus, Outputs, _item_window
from sparseclip._item_window import ItemWindow
from sparseclip._operations import Operations
from sparseclip.v1 import embedding_pb2, types_pb2
from tests.sparseclip.test_convert import INFO

MISSED = CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def opened(size: int = 3) -> ItemWindow:
    """A window whose first stream has begun."""
    start = Operations("tiny", "").stream_start(Outputs(top_concepts=2), INFO)
    window = ItemWindow(start=start, info=INFO, size=size)
    [first] = window.first_requests()
    assert first.start.model.name == "tiny"
    assert first.start.outputs.top_concepts == 2
    return window


def answer(key: str) -> embedding_pb2.EmbedStreamResponse:
    return embedding_pb2.EmbedStreamResponse(
        model=types_pb2.ModelVersion(name="tiny", version="1"),
        result=embedding_pb2.EmbedResult(id=key, active=int(key)),
    )


def test_it_holds_no_more_than_its_size() -> None:
    window = opened(size=2)
    for content in (b"a", b"b"):
        assert window.has_room
        assert window.add(content) is not None
    assert not window.has_room
    window.record(answer("0"), INFO)
    assert not window.has_room  # answered, but not given back
    assert [entry.source for entry in window.pop_ready()] == ["image[0]"]
    assert window.has_room


def test_answers_wait_for_their_turn() -> None:
    window = opened()
    for content in (b"a", b"b", b"c"):
        window.add(content)
    window.record(answer("2"), INFO)
    assert list(window.pop_ready()) == []
    window.record(answer("0"), INFO)
    assert [entry.active for entry in window.pop_ready()] == [0]
    window.record(answer("1"), INFO)
    assert [entry.active for entry in window.pop_ready()] == [1, 2]
    assert not window.has_unanswered


def test_an_item_that_cannot_be_sent_is_answered_in_its_place() -> None:
    window = opened()
    assert window.add("https://example.org/a.png") is None
    [failed] = window.pop_ready()
    assert failed.status == ItemStatus(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message="image: addresses are not fetched: give the path of a file",
    )
    assert not window.has_unanswered


def test_the_next_stream_begins_with_what_is_unanswered() -> None:
    window = opened()
    for content in (b"a", b"b", b"c"):
        window.add(content)
    window.record(answer("1"), INFO)
    start, *inputs = window.first_requests()
    assert start.HasField("start")
    assert [(entry.input.id, entry.input.image) for entry in inputs] == [("0", b"a"), ("2", b"c")]


@pytest.mark.parametrize("key", ["0", "7"])
def test_an_answer_that_nothing_waits_for_is_an_error(key: str) -> None:
    window = opened()
    window.add(b"a")
    window.record(answer("0"), INFO)
    with pytest.raises(CallError, match="answered an item twice"):
        window.record(answer(key), INFO)


def test_a_stream_takes_items_for_half_of_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_item_window.time, "monotonic", lambda: now)
    window = opened()
    assert window.deadline == INFO.limits.max_deadline_seconds == 60
    now += 29.9
    assert window.has_room
    now += 0.2
    assert not window.has_room
    list(window.first_requests())
    assert window.has_room


def test_a_missed_deadline_is_retryable_only_after_an_answer() -> None:
    window = opened()
    window.add(b"a")
    assert window.excuse_deadline(MISSED) is MISSED
    window.record(answer("0"), INFO)
    assert window.excuse_deadline(MISSED).code is grpc.StatusCode.UNAVAILABLE
    other = CallError(grpc.StatusCode.INTERNAL, "bug")
    assert window.excuse_deadline(other) is other
    list(window.first_requests())
    assert window.excuse_deadline(MISSED) is MISSED
