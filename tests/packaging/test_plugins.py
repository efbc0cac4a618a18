"""Every table of plug-ins: its names load, its classes keep the contract, no file is forgotten."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from bundle.plugins import PluginError, Plugins
from tests.packaging.import_graph import module_graph, modules
from tests.support.paths import ROOT

TABLES = {
    "DATABASES",
    "ENGINES",
    "FORMATS",
    "GENERATION_ENGINES",
    "HEADS",
    "INPUTS",
    "LOSSES",
    "MODEL_SOURCES",
    "PAIR_SOURCES",
    "RUNNERS",
}
NOT_IN_DEV = {"tensorrt", "vllm"}
"""Extras that `make test` does not install."""


class Table(NamedTuple):
    """A table and its folder."""

    name: str
    plugins: Plugins[Any]
    folder: str
    contract: type
    """The class in the folder's base.py that the table's type names."""


def tables() -> Iterator[Table]:
    """Every table that stands in the `__init__.py` of a folder."""
    for module, path in modules().items():
        if path.name != "__init__.py" or "Plugins(" not in path.read_text():
            continue
        folder = importlib.import_module(module)
        for name, kind in folder.__annotations__.items():
            match = re.fullmatch(r"Plugins\[(\w+)\]", str(kind))
            if match:
                contract = getattr(importlib.import_module(f"{module}.base"), match[1])
                yield Table(name, getattr(folder, name), module, contract)


ALL = list(tables())
NAMES = [(table, name) for table in ALL for name in table.plugins.names]


def test_these_are_the_tables() -> None:
    assert {table.name for table in ALL} == TABLES


@pytest.mark.parametrize(
    ("table", "name"), NAMES, ids=[f"{table.plugins.kind}-{name}" for table, name in NAMES]
)
def test_a_name_loads_a_class_that_keeps_the_contract(table: Table, name: str) -> None:
    extra = table.plugins.table[name].extra
    missing = ""
    try:
        plugin = table.plugins.load(name)
    except PluginError as error:
        missing = str(error)
    if missing:
        assert extra in NOT_IN_DEV
        assert f"pip install 'sparseclip[{extra}]'" in missing
        return
    assert plugin.__module__.startswith(f"{table.folder}.")
    assert not inspect.isabstract(plugin)
    assert members(table.contract) - declared(plugin) == set()


@pytest.mark.parametrize("table", ALL, ids=[table.name for table in ALL])
def test_every_plugin_of_a_folder_is_in_the_table(table: Table) -> None:
    """The others are base.py, helpers, whose names begin with an underscore, and what is imported
    from outside the folder."""
    known = modules()
    inside = {module for module in known if module.rpartition(".")[0] == table.folder}
    helpers = {module for module in inside if module.rpartition(".")[2].startswith("_")}
    outside = {
        name
        for module, imported in module_graph(known).items()
        if not module.startswith(table.folder)
        for name in imported
    }
    named = {plugin.target.partition(":")[0] for plugin in table.plugins.table.values()}
    assert named <= inside
    assert inside - named - helpers - outside - {f"{table.folder}.base"} == set()


def test_extras_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", text, re.MULTILINE))
    named = {plugin.extra for table in ALL for plugin in table.plugins.table.values()}
    assert named - extras == set()


def members(contract: type) -> set[str]:
    """What a contract asks for: methods, properties and annotated attributes."""
    names = set[str]()
    for base in contract.__mro__:
        if base is object or base.__module__ == "typing":
            continue
        names |= {name for name in vars(base) if not name.startswith("_")}
        names |= {name for name in getattr(base, "__annotations__", {}) if name[0] != "_"}
    return names


def declared(plugin: type) -> set[str]:
    """What a class has, and what its methods set on `self`."""
    names = set(dir(plugin))
    for base in plugin.__mro__[:-1]:
        names |= set(getattr(base, "__annotations__", {}))
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return names
