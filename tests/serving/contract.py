"""The wire contract as its descriptors give it: every method and message of sparseclip.v1."""

from __future__ import annotations

from google.protobuf import descriptor

from sparseclip.v1 import admin_pb2, concepts_pb2, embedding_pb2, types_pb2

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
