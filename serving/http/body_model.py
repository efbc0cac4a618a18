"""Bodies that other services defined, as strict pydantic models whose errors name the field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from serving.core.errors import ServingError, invalid
from serving.http.json_body import load_json
from serving.http.json_messages import shown

_PLAIN_TYPES = {"str", "int", "float", "bool"}
_OTHER_TYPE = re.compile(r"[A-Z]|[a-z-]+\[")
_SHORTENED = ("Input should be ", "Value should be ")
_IN_JSON = {
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a string",
    "string_unicode": "must be Unicode text",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}
"""What pydantic says in the words of Python, some of them names of classes."""


class StrictBody(BaseModel):
    """A body, or an object in one. A field that is not listed is refused: nothing that a caller
    asks for is left out without a word."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def read(cls, raw: bytes) -> Self:
        """The body in `raw`. A field that is null is one that is not there. Raises ServingError."""
        try:
            return cls.model_validate(_without_nulls(load_json(raw)))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise _named(first) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(v) for key, v in value.items() if v is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value


def _path(location: Sequence[int | str]) -> str:
    """`messages[0].content` for ('messages', 0, 'content'). The types among which a field has a
    choice are left out."""
    path = ""
    for part in location:
        if part in _PLAIN_TYPES or (isinstance(part, str) and _OTHER_TYPE.match(part)):
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return shown(path)


def _named(first: ErrorDetails) -> ServingError:
    kind, message, location = first["type"], first["msg"], first["loc"]
    path = _path(location)
    if kind == "extra_forbidden":
        path = f"{_path(location[:-1])}.{shown(str(location[-1]))}".removeprefix(".")
        return invalid(path, "this server has no such field")
    if kind == "too_long" and first.get("ctx", {}).get("max_length") == 0:
        return invalid(path, "this server has none")
    if kind == "missing":
        return invalid(path, "is needed")
    if kind in _IN_JSON:
        return invalid(path, _IN_JSON[kind])
    if kind == "literal_error":
        message = message.replace("False", "false").replace("True", "true")
    for start in _SHORTENED:
        if message.startswith(start):
            return invalid(path, f"must be {message.removeprefix(start)}")
    return invalid(path, message.removeprefix("Value error, "))
