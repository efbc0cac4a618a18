"""Builds frozen dataclasses of parsed JSON, YAML or TOML. Every error names the field."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from bundle.plugins import PluginError, Plugins

T = TypeVar("T")

_LARGE = 2**1000
"""Larger integers stand for this one where a float is expected."""


class SchemaError(ValueError):
    """Data that does not fit its dataclass; the message names the field."""


@dataclass(frozen=True)
class NumberRange:
    """The values that a number may have: `Annotated[int, NumberRange(1, 4096)]`."""

    low: float
    high: float = math.inf
    above_low: bool = False
    """Whether the number must be greater than `low`."""

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.above_low else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        is_bounded = self.high != math.inf
        if self.above_low:
            return f"greater than {self.low:,}" + f" and at most {self.high:,}" * is_bounded
        return f"{self.low:,} to {self.high:,}" if is_bounded else f"{self.low:,} or more"


PositiveInt = Annotated[int, NumberRange(1)]
PositiveFloat = Annotated[float, NumberRange(0, above_low=True)]
NonNegativeInt = Annotated[int, NumberRange(0)]
NonNegativeFloat = Annotated[float, NumberRange(0)]
Fraction = Annotated[float, NumberRange(0, 1)]


def from_dict(cls: type[T], data: object, at: str) -> T:
    """Builds the dataclass `cls` from parsed data.

    `at` is the dotted path of `data`, for messages. Raises SchemaError for an unknown key, naming
    the closest known one, for a missing key, and for a value of the wrong type, out of its range or
    not finite.
    """
    if not isinstance(data, dict):
        raise SchemaError(f"{at or 'top level'}: must be an object")
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy: a type[T] is not Hashable
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SchemaError(f"{_join(at, str(key))}: unknown key{hint}")
    values = {}
    for name, f in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(at, name))
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{_join(at, name)}: missing")
    return cls(**values)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    # Cached because it is slow, and concepts.jsonl has one line for each concept.
    return typing.get_type_hints(cls, include_extras=True)


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _convert(hint: Any, value: Any, at: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, at)
    if hint is Any:
        return value
    if origin is Annotated:
        return _convert_annotated(args, value, at)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, at)
    if origin is Literal:
        if value not in args:
            raise SchemaError(f"{at}: must be one of {', '.join(map(str, args))}")
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise SchemaError(f"{at}: must be an object")
        for key in value:
            if not isinstance(key, args[0]):  # YAML has keys that are no strings
                raise SchemaError(f"{at}: key {key!r}: must be {args[0].__name__}")
        return {k: _convert(args[1], v, _join(at, k)) for k, v in value.items()}
    if origin in (tuple, list):
        if not isinstance(value, list | tuple):
            raise SchemaError(f"{at}: must be a list")
        variable = origin is list or args[-1] is Ellipsis
        if not variable and len(value) != len(args):
            raise SchemaError(f"{at}: must have {len(args)} entries")
        kinds = [args[0]] * len(value) if variable else args
        return origin(
            _convert(k, v, f"{at}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -_LARGE), _LARGE))  # an int may be too large for a float
    if isinstance(value, float) and not math.isfinite(value):
        raise SchemaError(f"{at}: must be a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SchemaError(f"{at}: must be {hint.__name__}")
    return value


def _convert_annotated(args: tuple[Any, ...], value: Any, at: str) -> Any:
    """A field whose type names its table of plug-ins, `Annotated[str, FORMATS]`, or its range."""
    converted = _convert(args[0], value, at)
    for rule in args[1:]:
        if isinstance(rule, Plugins):
            try:
                rule.check(converted)
            except PluginError as error:
                raise SchemaError(f"{at}: {error}") from None
        elif isinstance(rule, NumberRange) and converted not in rule:
            raise SchemaError(f"{at}: must be {rule}")
    return converted
