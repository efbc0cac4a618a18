"""F-01 to F-07: what arrives on the wire."""

from __future__ import annotations

import random
import struct
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import ServingError
from serving.interceptors.parse import check_numbers
from sparseclip.v1 import admin_pb2, concepts_pb2, embedding_pb2, types_pb2
from tests.serving.harness import EMBED, PNG, STREAM, Running, embed_request, refused, survives

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = (admin_pb2, concepts_pb2, embedding_pb2, types_pb2)
METHODS = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
PUBLIC = [m for m in METHODS if "Admin" not in m.full_name]
UNARY = [m for m in PUBLIC if not m.client_streaming]
MESSAGES = [m for file in FILES for m in file.DESCRIPTOR.message_types_by_name.values()]


def path_of(method: descriptor.MethodDescriptor) -> str:
    service, name = method.full_name.rsplit(".", 1)
    return f"/{service}/{name}"


GROUPS = b"\x0b" * 200 + b"\x0c" * 200  # field 1 as a group, 200 deep
BAD_UTF8 = (
    embedding_pb2.EmbedInput(id="aa", text="x").SerializeToString().replace(b"aa", b"\xff\xfe")
)


def corrupt(seed: int) -> bytes:
    rng = random.Random(seed)
    whole = embed_request(PNG, texts=("a",)).SerializeToString()
    if seed % 2:
        return whole[: rng.randrange(1, len(whole) - 60)]
    return b"\x0a\xff" + rng.randbytes(rng.randrange(1, 400))


async def test_f01_corrupt_bytes_are_refused_with_a_constant_text(shared: Running) -> None:
    texts = set()
    rng = iter(range(10_000))

    async def fault() -> None:
        error = await refused(shared.raw(EMBED, corrupt(next(rng))))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        texts.add(error.message)

    await survives(shared, fault)
    assert texts == {"the message cannot be parsed"}


@pytest.mark.parametrize("method", UNARY, ids=lambda m: m.name)
async def test_f02_deep_nesting_and_bad_utf8(
    shared: Running, method: descriptor.MethodDescriptor
) -> None:
    error = await refused(shared.raw(path_of(method), GROUPS))
    assert (error.code, error.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message cannot be parsed",
    )


async def test_f02_bad_utf8(shared: Running) -> None:
    raw = b"\x12" + bytes([len(BAD_UTF8)]) + BAD_UTF8
    error = await refused(shared.raw(EMBED, raw))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_f02_unknown_fields_are_ignored(shared: Running) -> None:
    raw = embed_request(PNG).SerializeToString() + b"\xfa\x3f\x03abc"
    reply = embedding_pb2.EmbedResponse.FromString(await shared.raw(EMBED, raw))
    assert reply.results[0].status.code == 0


async def test_f01_corrupt_message_in_a_stream(shared: Running) -> None:
    start = embedding_pb2.EmbedStreamRequest(start=embedding_pb2.EmbedStreamStart())

    async def fault() -> None:
        call = shared.channel.stream_stream(STREAM)(
            iter([start.SerializeToString(), b"\x12\xff\xff\xff\xff\x0f"])
        )
        assert (await refused(call.read())).code is grpc.StatusCode.INVALID_ARGUMENT

    await survives(shared, fault, repeats=30)


def request_of(size: int) -> bytes:
    """A request of exactly `size` bytes: a good picture and an unknown field."""
    whole = embed_request(PNG).SerializeToString()
    padding = size - len(whole) - 6  # two bytes of tag, four of length
    rest = struct.pack("BBBB", *((padding >> shift & 0x7F | 0x80) for shift in (0, 7, 14)), 0)
    rest = rest[:3] + bytes([padding >> 21])
    return whole + b"\xfa\x3f" + rest + b"\0" * padding


async def test_f03_messages_up_to_the_limit(shared: Running) -> None:
    limit = shared.server.config.limits.message_bytes
    for size in (limit - 1, limit):
        raw = request_of(size)
        assert len(raw) == size
        reply = embedding_pb2.EmbedResponse.FromString(await shared.raw(EMBED, raw))
        assert reply.results[0].status.code == 0

    async def fault() -> None:
        error = await refused(shared.raw(EMBED, request_of(limit + 1)))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    # Threads of gRPC keep some of the 16 MiB each: about 60 MiB in all, however often.
    await survives(shared, fault, repeats=20, first=30)


async def test_f03_gzip_bomb(shared: Running) -> None:
    call = shared.channel.unary_unary(EMBED)
    zeros = b"\0" * (64 * 2**20)  # 64 KiB on the wire

    async def fault() -> None:
        error = await refused(call(zeros, compression=grpc.Compression.Gzip, timeout=60))
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED

    await survives(shared, fault, repeats=5)


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
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
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
    )


def messages(message: descriptor.Descriptor) -> st.SearchStrategy[Any]:
    """Any message of a type, from its descriptor alone."""
    kinds = descriptor.FieldDescriptor

    def value(field: descriptor.FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.cpp_type == kinds.CPPTYPE_MESSAGE:
            return messages(field.message_type)
        return (
            {
                kinds.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
                kinds.CPPTYPE_BOOL: st.booleans(),
                kinds.CPPTYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            }.get(field.cpp_type, st.binary(max_size=8))
            if field.type != kinds.TYPE_BYTES
            else (st.binary(max_size=8))
        )

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        result = message_factory.GetMessageClass(message)()
        for field in message.fields:
            if not draw(st.booleans()):
                continue
            drawn = [draw(value(field)) for _ in range(draw(st.integers(1, 3)))]
            if field.is_repeated:
                getattr(result, field.name).extend(drawn)
            elif field.cpp_type == kinds.CPPTYPE_MESSAGE:
                getattr(result, field.name).CopyFrom(drawn[0])
            else:
                setattr(result, field.name, drawn[0])
        return result

    return build()


CASES: dict[str, tuple[embedding_pb2.EmbedRequest, str]] = {
    "empty": (embedding_pb2.EmbedRequest(), "inputs"),
    "no content": (
        embedding_pb2.EmbedRequest(inputs=[embedding_pb2.EmbedInput(id="a")]),
        "inputs[0].content",
    ),
    "duplicate ids": (
        embedding_pb2.EmbedRequest(inputs=[embedding_pb2.EmbedInput(id="a", text="x")] * 2),
        "inputs[1].id",
    ),
    "a long id": (
        embedding_pb2.EmbedRequest(inputs=[embedding_pb2.EmbedInput(id="a" * 257, text="x")]),
        "inputs[0].id",
    ),
    "33 images": (embed_request(*[PNG] * 33), "inputs"),
    "257 texts": (embed_request(texts=("a",) * 257), "inputs"),
    "unknown concept name": (
        embedding_pb2.EmbedRequest(
            inputs=[embedding_pb2.EmbedInput(text="x")],
            outputs=embedding_pb2.OutputSelection(
                patch_concepts=[types_pb2.ConceptRef(name="no such")]
            ),
        ),
        "outputs.patch_concepts[0]",
    ),
    "concept id = C": (
        embedding_pb2.EmbedRequest(
            inputs=[embedding_pb2.EmbedInput(text="x")],
            outputs=embedding_pb2.OutputSelection(
                patch_concepts=[types_pb2.ConceptRef(concept_id=256)]
            ),
        ),
        "outputs.patch_concepts[0]",
    ),
    "too many top concepts": (
        embedding_pb2.EmbedRequest(
            inputs=[embedding_pb2.EmbedInput(text="x")],
            outputs=embedding_pb2.OutputSelection(top_concepts=2**32 - 1),
        ),
        "outputs.top_concepts",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_f06_malformed_calls_name_the_field(shared: Running, name: str) -> None:
    request, field = CASES[name]

    async def fault() -> None:
        error = await refused(shared.stub.Embed(request))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.violations] == [field]

    await survives(shared, fault)


async def test_f06_the_largest_call_is_answered(shared: Running) -> None:
    reply = await shared.stub.Embed(embed_request(*[PNG] * 32, texts=("a",) * 256), timeout=60)
    assert [result.status.code for result in reply.results] == [0] * 288


TEXTS = {
    "NUL bytes": ("a\0b\0", 0),
    "empty": ("", 0),
    "one long word": ("a" * 8192, 0),
    "over the limit": ("a" * 8193, grpc.StatusCode.INVALID_ARGUMENT.value[0]),
    "1 MB": ("x" * 2**20, grpc.StatusCode.INVALID_ARGUMENT.value[0]),
    "unassigned": ("\U000e0fff\u0378", 0),
}


@pytest.mark.parametrize("name", TEXTS)
async def test_f07_odd_texts(shared: Running, name: str) -> None:
    text, code = TEXTS[name]

    async def fault() -> None:
        reply = await shared.stub.Embed(embed_request(PNG, texts=(text,)))
        assert [result.status.code for result in reply.results] == [0, code]

    await survives(shared, fault, repeats=20)


async def test_f07_lone_surrogates_are_no_utf8(shared: Running) -> None:
    lone = b"\x12\x05\x1a\x03\xed\xa0\x80"  # inputs { text: U+D800 }
    assert (await refused(shared.raw(EMBED, lone))).code is grpc.StatusCode.INVALID_ARGUMENT
