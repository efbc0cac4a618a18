"""JSON as it comes and goes: strict where the standard library is not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from serving.core.errors import ErrorKind, ServingError, invalid
from serving.http.json_messages import shown
from serving.http.problems import HttpError

JSON_TYPE = "application/json"
MAX_VALUES = 100_000
"""Values of one body, in all its lists and objects."""
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character that JSON writes as two."""
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def check_json_type(content_type: str, encoding: str) -> None:
    """Raises HttpError unless a body is declared as JSON, and as not compressed.

    Pages of other sites may send bodies of a few other types without being asked who they are.
    """
    essence = content_type.partition(";")[0].strip().lower()
    if essence != JSON_TYPE:
        raise HttpError(415, f"the content-type must be {JSON_TYPE}")
    if encoding.strip().lower() not in ("", "identity"):
        raise HttpError(415, "the body must not be compressed")


def load_json(raw: bytes) -> dict[str, Any]:
    """The object that a body holds. Raises ServingError."""
    _check_values(raw)
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ServingError(ErrorKind.INVALID, "the body is not JSON") from None
    if not isinstance(data, dict):
        raise ServingError(ErrorKind.INVALID, "the body must be a JSON object")
    if _HALF.search(raw):
        _check_texts(data)
    return data


def _check_texts(data: dict[str, Any]) -> None:
    """Refuses texts and names that UTF-8 cannot hold: neither a message of the wire contract nor a
    reply could. Raises ServingError naming the field."""
    pending: list[tuple[Any, str]] = [(data, "")]
    while pending:
        value, at = pending.pop()
        if isinstance(value, str):
            if not _is_unicode(value):
                raise invalid(at, "must be Unicode text")
        elif isinstance(value, list):
            pending.extend((entry, f"{at}[{i}]") for i, entry in enumerate(value))
        elif isinstance(value, dict):
            for name, entry in value.items():
                if not _is_unicode(name):
                    raise invalid(at or "body", "has a name that is not Unicode text")
                pending.append((entry, shown(f"{at}.{name}" if at else name)))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_values(raw: bytes) -> None:
    """Refuses a body of many values before they are made: each takes a hundred times the memory of
    its two or three bytes. Raises ServingError."""
    if _values(raw) > MAX_VALUES and _values(_STRINGS.sub(b"", raw)) > MAX_VALUES:
        raise ServingError(ErrorKind.INVALID, f"the body has more than {MAX_VALUES:,} values")


def _values(raw: bytes) -> int:
    return sum(raw.count(mark) for mark in (b",", b"{", b"["))


def dump_json(data: object) -> bytes:
    """Compact JSON."""
    return json.dumps(
        data, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse
    ).encode()


def dump_object(fields: Mapping[str, object]) -> bytes:
    """An object as JSON. Values that are bytes are JSON already."""
    parts = (
        dump_json(name) + b":" + (value if isinstance(value, bytes) else dump_json(value))
        for name, value in fields.items()
    )
    return b"{" + b",".join(parts) + b"}"


def dump_list(entries: Iterable[bytes]) -> bytes:
    """A list of what is JSON already."""
    return b"[" + b",".join(entries) + b"]"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):  # one of the two would be lost without a word
        raise ServingError(ErrorKind.INVALID, "the body has a name twice in one object")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"no JSON: {type(value).__name__}")
