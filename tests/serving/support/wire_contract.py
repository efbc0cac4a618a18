"""The wire contract as its descriptors give it: every method and message that the server knows."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor, message_factory
from hypothesis import strategies as st

from serving.rpc.open_inference import open_inference_pb2
from sparseclip.v1 import admin_pb2, chat_pb2, concepts_pb2, embedding_pb2, types_pb2

FILES = (admin_pb2, chat_pb2, concepts_pb2, embedding_pb2, open_inference_pb2, types_pb2)
METHODS = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
PUBLIC = [m for m in METHODS if not re.search("Admin|RepositoryModel(Load|Unload)$", m.full_name)]
UNARY = [m for m in PUBLIC if not m.client_streaming]
MESSAGES = [m for file in FILES for m in file.DESCRIPTOR.message_types_by_name.values()]


def path_of(method: descriptor.MethodDescriptor) -> str:
    service, name = method.full_name.rsplit(".", 1)
    return f"/{service}/{name}"


def messages(message: descriptor.Descriptor) -> st.SearchStrategy[Any]:
    """Any message of a type, from its descriptor alone."""
    kinds = descriptor.FieldDescriptor

    def value(field: descriptor.FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.cpp_type == kinds.CPPTYPE_MESSAGE:
            return messages(field.message_type)
        return (
            {
                kinds.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
                kinds.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
                kinds.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
                kinds.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
                kinds.CPPTYPE_FLOAT: st.floats(width=32),
                kinds.CPPTYPE_DOUBLE: st.floats(),
                kinds.CPPTYPE_ENUM: st.integers(0, 7),
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
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                for entry in drawn:
                    getattr(result, field.name)[entry.key].CopyFrom(entry.value)
            elif field.is_repeated:
                getattr(result, field.name).extend(drawn)
            elif field.cpp_type == kinds.CPPTYPE_MESSAGE:
                getattr(result, field.name).CopyFrom(drawn[0])
            else:
                setattr(result, field.name, drawn[0])
        return result

    return build()
