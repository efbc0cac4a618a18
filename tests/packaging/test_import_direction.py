"""Who imports whom, as the architecture draws it: by reading every file, not by running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.paths import ROOT

ROOMS = {
    "bundle": ROOT / "bundle",
    "mllm_adapter": ROOT / "mllm_adapter",
    "serving": ROOT / "serving",
    "sparseclip": ROOT / "protos" / "sparseclip",
    "training": ROOT / "training",
}
SHARED = ("cli.options", "compat", "config", "data", "evaluation", "loading", "model", "trainer")
"""What the adapter has from training: the model, its data, and how a run is kept."""
ALLOWED = {
    "bundle": set(),
    "mllm_adapter": {"bundle", *(f"training.{part}" for part in SHARED)},
    "serving": {"bundle", "sparseclip"},
    "sparseclip": set(),
    "training": {"bundle"},
}
LAZY = {"serving": {"mllm_adapter"}}
"""Allowed inside a function only."""
HEAVY = {"onnxruntime", "open_clip", "timm", "torch", "torchvision", "transformers"}
FORBIDDEN = {
    "bundle": HEAVY - {"onnxruntime"} | {"pickle", "urllib", "requests", "http"},
    "serving": HEAVY - {"onnxruntime"} | {"pickle", "urllib", "requests"},
    "sparseclip": HEAVY | {"PIL", "pickle", "urllib", "requests", "http"},
}


@dataclass(frozen=True)
class Import:
    """One import of a file."""

    place: str
    module: str
    lazy: bool


def imports(tree: ast.Module, place: str) -> Iterator[Import]:
    """Every import in a file: statements, and import_module calls with a constant."""
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        where, lazy = f"{place}:{getattr(node, 'lineno', 0)}", id(node) in inside
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(where, name.name, lazy)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: imports are absolute here"
            for name in node.names:
                yield Import(where, f"{node.module}.{name.name}", lazy)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(where, str(argument.value), lazy)


def files(room: str) -> list[Path]:
    return sorted(path for path in ROOMS[room].rglob("*.py") if "_pb2" not in path.name)


def read(path: Path) -> list[Import]:
    place = str(path.relative_to(ROOT))
    return list(imports(ast.parse(path.read_text(), filename=place), place))


def within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def wrong(room: str, found: list[Import]) -> list[Import]:
    """The imports that point the wrong way."""
    others = set(ROOMS) - {room} | {"tests", "benchmarks"}
    return [
        entry
        for entry in found
        if within(entry.module, others)
        and not within(entry.module, ALLOWED[room])
        and not (entry.lazy and within(entry.module, LAZY.get(room, set())))
    ]


@pytest.mark.parametrize("room", [room for room in ROOMS if ROOMS[room].exists()])
def test_a_room_imports_only_what_it_may(room: str) -> None:
    found = [entry for path in files(room) for entry in read(path)]
    assert found, f"{room}: no imports were read"
    assert wrong(room, found) == []
    forbidden = FORBIDDEN.get(room, set())
    assert [entry for entry in found if within(entry.module, forbidden)] == []


@pytest.mark.parametrize(
    ("room", "source", "bad"),
    [
        ("bundle", "import serving.core.limits", True),
        ("bundle", "def f():\n    from training import model", True),
        ("training", "from bundle.codes import SparseCodes", False),
        ("training", "import importlib\nimportlib.import_module('serving.local')", True),
        ("mllm_adapter", "from training.model.sparse_clip import SparseClip", False),
        ("mllm_adapter", "from training.trainer.loop import run", True),
        ("serving", "from mllm_adapter import chat", True),
        ("serving", "def f():\n    from mllm_adapter import chat", False),
        ("sparseclip", "from sparseclip.v1 import types_pb2", False),
        ("sparseclip", "import bundle", True),
        ("training", "from tests.client import scripted", True),
    ],
)
def test_the_check_itself_sees_what_it_should(room: str, source: str, bad: bool) -> None:
    assert bool(wrong(room, list(imports(ast.parse(source), "example")))) is bad


def test_no_file_outgrows_a_screenful_of_screens() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for room in ROOMS
        for path in files(room)
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_weights_and_code_never_come_from_a_pickle() -> None:
    for room in ROOMS:
        for path in files(room):
            for node in ast.walk(ast.parse(path.read_text())):
                text = ast.unparse(node) if isinstance(node, ast.Call) else ""
                unsafe = text.startswith(("torch.load(", "pickle.")) or "trust_remote_code" in text
                assert not unsafe, f"{path.relative_to(ROOT)}: {text}"
