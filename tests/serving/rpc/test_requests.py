"""F-06 and F-07: calls that parse and break the contract, and odd texts."""

from __future__ import annotations

import grpc
import pytest

from sparseclip.v1 import embedding_pb2, types_pb2
from tests.serving.support.running_server import (
    EMBED,
    PNG,
    Running,
    embed_request,
    refused,
    survives,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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

    # Threads of gRPC keep some of the memory of large messages, which many calls take to reach.
    await survives(shared, fault, first=60)


async def test_f06_the_largest_call_is_answered(shared: Running) -> None:
    reply = await shared.stub.Embed(embed_request(*[PNG] * 32, texts=("a",) * 256), timeout=60)
    assert [result.status.code for result in reply.results] == [0] * 288


TEXTS = {
    "NUL bytes": ("a\0b\0", grpc.StatusCode.INVALID_ARGUMENT.value[0]),
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
