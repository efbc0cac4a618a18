"""The captions in a text, a JSON object or a table's cell, and which of them are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from bundle.text import EMPTY, MAX_CHARACTERS, TextError, clean_text
from training.loading.sources import _reasons
from training.loading.sources.base import BadPairError

MAX_CAPTION_BYTES = 2**20
"""A larger file of captions is refused before it is read."""

JSON_KEYS = ("captions", "caption", "text")
"""Keys of a JSON object that may hold captions; the first one that holds something counts."""


def captions_of(value: object) -> tuple[str, ...]:
    """The captions in a text or in a list of texts, without those that are missing or blank.

    None and NaN are missing. Raises BadPairError when none is left, and when one is no text at all.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    values: Sequence[object] = value if is_list else [value]  # type: ignore[assignment]
    present = [v for v in values if not _is_missing(v)]
    if not present:
        raise BadPairError(_reasons.NO_CAPTION)
    captions = [_checked(v) for v in present]
    kept = tuple(caption for caption in captions if _says_something(caption))
    if not kept:
        raise BadPairError(_reasons.BLANK)
    return kept


def captions_of_text(data: bytes) -> tuple[str, ...]:
    """The caption in a .txt file. Raises BadPairError."""
    try:
        return captions_of(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadPairError(_reasons.NOT_UTF8) from None


def captions_of_json(data: bytes) -> tuple[str, ...]:
    """The captions in a .json file: an object with one of JSON_KEYS. Raises BadPairError."""
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BadPairError(_reasons.NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise BadPairError(_reasons.NOT_JSON) from None
    if not isinstance(content, dict):
        raise BadPairError(_reasons.NOT_AN_OBJECT)
    return captions_of(next((content[k] for k in JSON_KEYS if _holds(content.get(k))), None))


def _holds(value: object) -> bool:
    return not _is_missing(value) and value != []


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _says_something(caption: str) -> bool:
    try:
        return bool(clean_text(caption))
    except TextError as error:
        if error.problem == EMPTY:
            return False
        raise BadPairError(f"the caption {error.problem}") from None


def _checked(value: object) -> str:
    if not isinstance(value, str):
        raise BadPairError(_reasons.NOT_TEXT)
    if len(value) > MAX_CHARACTERS:
        raise BadPairError(_reasons.TOO_LONG)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadPairError(_reasons.NOT_UTF8) from None
    return value
