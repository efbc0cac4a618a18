"""F-05: numbers and enums that no field may hold, by the contract's own descriptors."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor, message_factory
from hypothesis import given
from hypothesis import strategies as st

from serving.core.errors import ServingError
from serving.rpc.interceptors.parse_request import check_numbers
from sparseclip.v1 import concepts_pb2, embedding_pb2
from tests.serving.support.running_server import PNG, Running, refused
from tests.serving.support.wire_contract import MESSAGES, UNARY, messages, path_of
from tests.support.explore import examples

pytestmark = pytest.mark.asyncio(loop_scope="module")


def holders(kind: str) -> list[tuple[descriptor.Descriptor, descriptor.FieldDescriptor]]:
    """Every field of the contract that holds floats or enums."""
    floats = (descriptor.FieldDescriptor.CPPTYPE_FLOAT, descriptor.FieldDescriptor.CPPTYPE_DOUBLE)
    return [
        (message, field)
        for message in MESSAGES
        for field in message.fields
        if (field.cpp_type in floats if kind == "float" else field.enum_type is not None)
    ]


def put(message: Any, field: descriptor.FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).extend([value])
    else:
        setattr(message, field.name, value)


@pytest.mark.parametrize("case", holders("float"), ids=lambda c: f"{c[0].name}.{c[1].name}")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
async def test_f05_numbers_that_are_not_finite_are_named(case: Any, value: float) -> None:
    message = message_factory.GetMessageClass(case[0])()
    check_numbers(message, "")
    put(message, case[1], value)
    with pytest.raises(ServingError, match=case[1].name) as caught:
        check_numbers(message, "")
    assert case[1].name in caught.value.field


@pytest.mark.parametrize("case", holders("enum"), ids=lambda c: f"{c[0].name}.{c[1].name}")
async def test_f05_unknown_enum_numbers_are_named(case: Any) -> None:
    message = message_factory.GetMessageClass(case[0])()
    put(message, case[1], 1)
    check_numbers(message, "")
    message = message_factory.GetMessageClass(case[0])()
    put(message, case[1], 977)
    with pytest.raises(ServingError, match=case[1].name):
        check_numbers(message, "")


async def test_f05_nested_numbers_are_named_by_their_path() -> None:
    reply = embedding_pb2.EmbedResponse()
    reply.results.add()
    reply.results.add().sparse.values.extend([1.0, float("nan")])
    with pytest.raises(ServingError) as caught:
        check_numbers(reply, "")
    assert caught.value.field == "results[1].sparse.values[1]"


INTEGERS = [
    (method, field)
    for method in UNARY
    for field in method.input_type.fields
    if field.cpp_type == descriptor.FieldDescriptor.CPPTYPE_UINT32
]
VALID = {
    "SearchConcepts": concepts_pb2.SearchConceptsRequest(query="dog"),
    "ExplainImage": concepts_pb2.ExplainImageRequest(image=PNG),
}


@pytest.mark.parametrize("case", INTEGERS, ids=lambda c: f"{c[0].name}.{c[1].name}")
@pytest.mark.parametrize("value", [2**31, 2**32 - 1])
async def test_f05_counts_out_of_bounds_are_named(shared: Running, case: Any, value: int) -> None:
    method, field = case
    message = message_factory.GetMessageClass(method.input_type)()
    if method.name in VALID:
        message.CopyFrom(VALID[method.name])
    setattr(message, field.name, value)
    error = await refused(shared.raw(path_of(method), message.SerializeToString()))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [v.field for v in error.violations] == [field.name]


async def test_f05_negative_count_as_a_varint(shared: Running) -> None:
    raw = b"\x10" + b"\xff" * 9 + b"\x01"  # page_size = -1
    error = await refused(shared.raw("/sparseclip.v1.ConceptService/ListConcepts", raw))
    assert [v.field for v in error.violations] == ["page_size"]


@pytest.mark.parametrize("method", UNARY, ids=lambda m: m.name)
@examples(25)
@given(data=st.data())
async def test_f05_whatever_parses_gets_a_defined_answer(
    shared: Running, method: descriptor.MethodDescriptor, data: st.DataObject
) -> None:
    raw = data.draw(messages(method.input_type)).SerializeToString()
    call = shared.channel.unary_unary(path_of(method))(raw)
    assert await call.code() in (
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,  # this bundle has no chat
    )
