"""The project's import graph, read from the source. `python -m tests.packaging.import_graph` prints
which folder imports which."""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

ROOMS = {
    "bundle": ROOT / "bundle",
    "mllm_adapter": ROOT / "mllm_adapter",
    "serving": ROOT / "serving",
    "sparseclip": ROOT / "protos" / "sparseclip",
    "training": ROOT / "training",
}

TYPE_CHECKER_ONLY = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
"""Conditions whose block is never run."""

Graph = Mapping[str, set[str]]
"""A module or a folder, and those that it imports."""


@dataclass(frozen=True)
class Import:
    """One import of a file."""

    line: str
    """`path:line`, for messages."""
    module: str
    """What is imported: a module, or a name inside one."""
    lazy: bool
    """It stands inside a function, or is named by a string and imported on first use."""


def imports(tree: ast.Module, path: str) -> Iterator[Import]:
    """Every import in a file: statements, import_module calls with a constant, and the targets of
    tables of plug-ins. What only a type checker reads is left out: it is never imported."""
    inside, unread = set[int](), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside |= {id(child) for child in ast.walk(node)}
        elif isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKER_ONLY:
            unread |= {id(child) for statement in node.body for child in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        line, lazy = f"{path}:{getattr(node, 'lineno', 0)}", id(node) in inside
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(line, name.name, lazy)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{line}: imports are absolute here"
            for name in node.names:
                yield Import(line, f"{node.module}.{name.name}", lazy)
        elif isinstance(node, ast.Call) and node.args:
            function, first = ast.unparse(node.func), node.args[0]
            if not isinstance(first, ast.Constant):
                continue
            if "import" in function:
                yield Import(line, str(first.value), lazy)
            elif function == "Plugin":
                yield Import(line, str(first.value).replace(":", "."), True)


def files(room: str) -> list[Path]:
    """The files of a room that people wrote."""
    return sorted(path for path in ROOMS[room].rglob("*.py") if "_pb2" not in path.name)


@functools.cache
def read(path: Path) -> list[Import]:
    """The imports of a file of the repository."""
    name = str(path.relative_to(ROOT))
    return list(imports(ast.parse(path.read_text(), filename=name), name))


def modules() -> dict[str, Path]:
    """Every module that people wrote, by its import name."""
    found = {}
    for room, root in ROOMS.items():
        for path in files(room):
            parts = path.relative_to(root.parent).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def module_graph(known: Mapping[str, Path]) -> Graph:
    """Which module imports which. A table of plug-ins does not count: its plug-ins import the
    contract beside it, and are imported by name when one is chosen."""
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        graph[module] = set()
        for entry in read(path):
            name = entry.module
            while name and name not in known:
                name = name.rpartition(".")[0]
            is_table = entry.lazy and path.name == "__init__.py"
            if name and name != module and not is_table:
                graph[module].add(name)
    return graph


def folder_graph(modules: Graph, known: Mapping[str, Path]) -> Graph:
    """Which folder imports which."""

    def folder(module: str) -> str:
        return module if known[module].name == "__init__.py" else module.rpartition(".")[0]

    graph: dict[str, set[str]] = {}
    for module, imported in modules.items():
        above = graph.setdefault(folder(module), set())
        above |= {folder(name) for name in imported} - {folder(module)}
    return graph


def cycle(graph: Graph) -> list[str]:
    """One cycle of the graph, in order; empty when there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def lines(folders: Graph) -> list[str]:
    """The graph of folders as text: each folder, and those it imports, lowest first."""
    order = graphlib.TopologicalSorter(folders).static_order()
    return [f"{folder} -> {', '.join(sorted(folders.get(folder, ()))) or '-'}" for folder in order]


if __name__ == "__main__":
    known = modules()
    print("\n".join(lines(folder_graph(module_graph(known), known))))
