"""Checks of a caller's values. Each error names the field."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

MAX_COUNT = 2**32 - 1
"""The largest whole number of a message."""


def whole_number(value: Any, field: str) -> int:
    """A whole number from 0 to MAX_COUNT, also one of numpy's, as an int.

    Raises TypeError for another type, and ValueError for another number.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{field}: must be a whole number")
    if number < 0:
        raise ValueError(f"{field}: must not be negative")
    if number > MAX_COUNT:
        raise ValueError(f"{field}: must be at most {MAX_COUNT}")
    return number


def real_number(value: Any, field: str) -> float:
    """A number, as a float. Raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{field}: must be a number")
    return float(value)


def unicode_text(value: Any, field: str) -> str:
    """A text that UTF-8 can hold. Raises TypeError, and ValueError for half of a character."""
    if not isinstance(value, str):
        raise TypeError(f"{field}: must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{field}: not valid Unicode") from None
    return value


def concept_key(value: Any, field: str) -> int | str:
    """A concept's id or exact name. Raises TypeError and ValueError."""
    if isinstance(value, str):
        return unicode_text(value, field)
    try:
        return whole_number(value, field)
    except TypeError:
        raise TypeError(f"{field}: must be an id or a name") from None
    except ValueError:
        raise ValueError(f"{field}: not an id") from None


def instances(values: Any, kind: type, field: str) -> tuple[Any, ...]:
    """A list whose entries are all of one type, as a tuple. Raises TypeError."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{field}: must be a list")
    found = tuple(values)
    for position, value in enumerate(found):
        if not isinstance(value, kind):
            raise TypeError(f"{field}[{position}]: must be {_with_article(kind.__name__)}")
    return found


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"
