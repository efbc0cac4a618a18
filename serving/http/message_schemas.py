"""JSON schemas of the wire contract's messages, for the description of the HTTP door."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

REF = "#/components/schemas/"

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
}
_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def message_schema(descriptor: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A reference to the schema of a descriptor, which is put into `schemas` with all it names."""
    name = descriptor.name
    if name not in schemas:
        properties: dict[str, Any] = {}
        schemas[name] = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }
        for field in descriptor.fields:
            properties[field.name] = _field_schema(field, schemas)
    return {"$ref": f"{REF}{name}"}


def _field_schema(field: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        schema = message_schema(field.message_type, schemas)
    else:
        schema = _scalar_schema(field)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _scalar_schema(field: Any) -> dict[str, Any]:
    if field.enum_type is not None:
        return {"type": "string", "enum": list(field.enum_type.values_by_name)}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return {"type": "string"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean"}
    if field.cpp_type in _FLOATS:
        return {"type": "number", "format": "float"}
    if field.cpp_type in _LONG:
        return {"type": "string", "description": "an integer, in quotes as protobuf has it"}
    return {"type": "integer", "format": _INTEGERS[field.cpp_type]}
