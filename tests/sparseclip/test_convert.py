"""Messages to results and back, and the errors that a call can carry."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.rpc import status_pb2

from sparseclip import (
    CallError,
    ChatImage,
    ChatMessage,
    ChatSampling,
    Edit,
    ModelState,
    ScoredCaption,
    Steering,
)
from sparseclip._convert import (
    concept_from_proto,
    concept_key_to_proto,
    coverage_from_proto,
    embedding_from_proto,
    explanation_from_proto,
    item_status_from_proto,
    model_info_from_proto,
    server_status_from_proto,
)
from sparseclip._convert_chat import chat_request, event_from_proto, to_messages
from sparseclip.v1 import admin_pb2, chat_pb2, concepts_pb2, embedding_pb2, types_pb2

TINY = types_pb2.ModelVersion(name="tiny", version="1")
INFO = model_info_from_proto(
    embedding_pb2.GetModelResponse(
        model=TINY,
        concepts=16,
        limits=embedding_pb2.Limits(
            message_bytes=2**20, image_bytes=1000, text_bytes=100, max_deadline_seconds=60
        ),
    )
)


def test_an_embedding() -> None:
    message = embedding_pb2.EmbedResult(
        sparse=types_pb2.SparseVector(indices=[2, 5], values=[1.0, 2.0], norm=3.0),
        active=4,
        concepts=[types_pb2.ScoredConcept(concept_id=5, name="dog", value=2.0)],
        patches=embedding_pb2.PatchCodes(
            rows=1,
            columns=2,
            maps=[embedding_pb2.ConceptMap(concept_id=5, values=[0.5, 3.5])],
        ),
        coverage=types_pb2.Coverage(framing=types_pb2.IMAGE_FRAMING_CROP, ground=0x0A0B0C),
        captions=[types_pb2.ScoredCaption(text="a dog", similarity=0.5)],
    )
    embedding = embedding_from_proto(message, source="a.png", info=INFO)
    assert embedding.ok
    assert (embedding.source, embedding.model, embedding.width) == ("a.png", INFO.model, 16)
    assert (embedding.indices.dtype, embedding.values.dtype) == (np.uint32, np.float32)
    assert (embedding.norm, embedding.active, embedding.dense) == (3.0, 4, None)
    assert (embedding.coverage.framing, embedding.coverage.ground) == ("crop", "#0a0b0c")
    assert embedding.captions == (ScoredCaption(text="a dog", similarity=0.5),)
    assert embedding.concepts[0].name_confidence is None
    [patches] = embedding.patches
    np.testing.assert_array_equal(patches.values, [[0.5, 3.5]])


def test_a_map_that_does_not_fit_its_grid_is_refused() -> None:
    maps = [embedding_pb2.ConceptMap(concept_id=5, values=[0.5])]
    patches = embedding_pb2.PatchCodes(rows=1, columns=2, maps=maps)
    with pytest.raises(CallError, match="does not fit its grid"):
        embedding_from_proto(embedding_pb2.EmbedResult(patches=patches), source="a", info=INFO)
    explanation = concepts_pb2.ConceptExplanation(values=[0.5])
    reply = concepts_pb2.ExplainImageResponse(rows=2, columns=2, explanations=[explanation])
    with pytest.raises(CallError, match="does not fit its grid"):
        explanation_from_proto(reply, source="a")


def test_clarity_that_was_not_measured_is_none() -> None:
    assert concept_from_proto(concepts_pb2.Concept()).clarity is None
    assert concept_from_proto(concepts_pb2.Concept(clarity=0.0)).clarity == 0.0


@pytest.mark.parametrize("key", [-1, 2**32])
def test_a_number_that_is_no_id_is_refused(key: int) -> None:
    with pytest.raises(CallError, match="concept: not an id"):
        concept_key_to_proto(key)


def test_values_of_a_later_contract_are_unknown() -> None:
    status = item_status_from_proto(status_pb2.Status(code=99, message="new"))
    assert (status.code, status.message) == (grpc.StatusCode.UNKNOWN, "new")
    entry = admin_pb2.ModelStatus(model=TINY)
    entry.state = 99  # type: ignore[assignment]
    [model] = server_status_from_proto(admin_pb2.GetStatusResponse(models=[entry])).models
    assert model.state is ModelState.UNSPECIFIED
    end = chat_pb2.ChatEnd()
    end.finish = 99  # type: ignore[assignment]
    event = event_from_proto(chat_pb2.ChatResponse(end=end))
    assert event is not None
    later = types_pb2.Coverage()
    later.framing = 99  # type: ignore[assignment]
    assert coverage_from_proto(later).framing is None
    assert (event.text, event.finish) == ("", "")  # type: ignore[union-attr]
    assert event_from_proto(chat_pb2.ChatResponse()) is None


def test_a_question_gives_its_edits_to_images_without_any() -> None:
    ours = Steering(edits=[Edit(op="ABLATE", concept=1)])
    own = ChatImage(image=b"b", steering=Steering(strength=0.5))
    [message] = to_messages("What?", [b"a", own], ours)
    assert message.images == [ChatImage(image=b"a", steering=ours), own]
    selector = types_pb2.ModelSelector(name="tiny")
    request = chat_request(selector, [message], ChatSampling(seed=3), INFO)
    assert (request.model.name, request.sampling.seed) == ("tiny", 3)
    plans = [image.steering for image in request.messages[0].images]
    assert [plan.strength for plan in plans] == [1.0, 0.5]
    assert plans[0].edits[0].op == chat_pb2.STEERING_OP_ABLATE
    assert not plans[0].edits[0].HasField("value")


def test_a_conversation_has_its_images_in_its_messages() -> None:
    messages = [ChatMessage(text="What?", images=[b"a"])]
    assert to_messages(messages, [], None) == tuple(messages)
    with pytest.raises(ValueError, match="belong in its messages"):
        to_messages(messages, [b"a"], None)
    with pytest.raises(TypeError, match="must be a list"):
        to_messages("What?", b"a", None)  # type: ignore[arg-type]


class Failed(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A failed call as grpc raises it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self._code, self._message = code, message

    code = lambda self: self._code  # noqa: E731
    details = lambda self: self._message  # noqa: E731
    trailing_metadata = lambda self: ()  # noqa: E731
    initial_metadata = is_active = time_remaining = cancel = add_callback = trailing_metadata


def test_a_status_that_grpc_lost_is_retryable() -> None:
    lost = CallError.from_rpc(Failed(grpc.StatusCode.INTERNAL, "Internal error from Core"))
    assert lost.code is grpc.StatusCode.UNAVAILABLE
    reset = CallError.from_rpc(Failed(grpc.StatusCode.CANCELLED, "CANCELLED"))
    assert reset.code is grpc.StatusCode.UNAVAILABLE
    own = CallError.from_rpc(Failed(grpc.StatusCode.CANCELLED, "Channel closed!"))
    assert own.code is grpc.StatusCode.CANCELLED
    told = CallError.from_rpc(Failed(grpc.StatusCode.INTERNAL, "internal error"))
    assert str(told) == "INTERNAL: internal error"
    assert CallError.from_rpc(grpc.RpcError()).code is grpc.StatusCode.UNKNOWN
