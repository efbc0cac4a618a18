"""A configuration dataclass as command-line options: a flag per field, its sentence as the help."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import click

from bundle.plugins import Plugins
from serving.core.config import documentation

SHORT_FLAGS = {"engine.device": ("--device",), "engine.precision": ("--precision",)}
"""Shorter flags of fields that people choose beside --engine."""


class SectionedCommand(click.Command):
    """A command whose help lists the options of nested fields under headings of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = parameter.section if isinstance(parameter, FieldOption) else ""
                sections.setdefault(section, []).append(record)
        for section, records in sections.items():
            with formatter.section(f"Options: {section}" if section else "Options"):
                formatter.write_dl(records)


class FieldOption(click.Option):
    """The option of one field of a configuration class."""

    def __init__(self, *flags: str, field: str, **attributes: Any) -> None:
        super().__init__([*flags, _parameter(field)], **attributes)
        self.field = field
        """The field's dotted name, such as `limits.drain_s`."""
        self.section = field.rpartition(".")[0]


def options(cls: type, at: str = "") -> Iterator[FieldOption]:
    """The options of a configuration class and of the classes inside it.

    The value of an option that is not given is None, so that a file's value stays in force.
    """
    hints, sentences = typing.get_type_hints(cls, include_extras=True), documentation(cls)
    for field in dataclasses.fields(cls):
        name = f"{at}{field.name}"
        kind, optional = _unwrap(hints[field.name])
        if dataclasses.is_dataclass(kind):
            yield from options(typing.cast(type, kind), at=f"{name}.")
            continue
        # `engine.name` is --engine: what is chosen, beside its settings such as --engine-device.
        flag = "--" + name.removesuffix(".name").replace(".", "-").replace("_", "-")
        flags = [flag, *SHORT_FLAGS.get(name, ())]
        help_text = sentences.get(field.name, "")
        if kind is bool:
            yield FieldOption(
                f"{flag}/{'--no-' + flag[2:]}", field=name, default=None, help=help_text
            )
            continue
        if not optional and field.default is not dataclasses.MISSING:
            help_text += f"  [default: {field.default}]"
        yield FieldOption(*flags, field=name, type=_type(kind), default=None, help=help_text)


def values(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    """The given options by dotted field name; None for an option that was not given."""
    return {option.field: given[_parameter(option.field)] for option in options(cls)}


def _parameter(field: str) -> str:
    return field.replace(".", "__")


def _unwrap(hint: Any) -> tuple[Any, bool]:
    """The type without None, and whether None is allowed."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if len(kinds) != 1:
            raise TypeError(f"{hint}: a field has one type, or that and None")
        return kinds[0], True
    return hint, False


def _type(kind: Any) -> Any:
    """The click type of a field's type."""
    if typing.get_origin(kind) is Literal:
        return click.Choice([str(value) for value in typing.get_args(kind)])
    if typing.get_origin(kind) is Annotated:
        plain, rule = typing.get_args(kind)
        # A number out of its range is refused as in a file: by load_config, which names the field.
        return click.Choice(rule.choices) if isinstance(rule, Plugins) else _type(plain)
    if kind not in (float, int, str):
        raise TypeError(f"{kind}: no command-line form")
    return kind
