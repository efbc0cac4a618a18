"""Who imports whom, as the architecture draws it: by reading every file, not by running it."""

from __future__ import annotations

import ast

import pytest

from tests.packaging.import_graph import (
    ROOMS,
    Import,
    cycle,
    files,
    folder_graph,
    imports,
    lines,
    module_graph,
    modules,
    read,
)
from tests.support.paths import ROOT

SHARED = ("cli.pair_options", "cli.run_options", "core", "data", "evaluation.minilm", "loading")
"""What the adapter has from training: its data, and how a run is kept (training/core)."""
ALLOWED = {
    "bundle": set(),
    "mllm_adapter": {"bundle", *(f"training.{part}" for part in SHARED)},
    "serving": {"bundle", "mllm_adapter.engines.GENERATION_ENGINES", "sparseclip"},
    "sparseclip": set(),
    "training": {"bundle"},
}
LAZY = {"serving": {"mllm_adapter", "training.core.torchvision_compat"}}
"""Allowed inside a function only. What imports transformers also needs the cure of torchvision."""
HEAVY = {"onnxruntime", "open_clip", "timm", "torch", "torchvision", "transformers"}
FORBIDDEN = {
    "bundle": HEAVY - {"onnxruntime"} | {"pickle", "urllib", "requests", "http"},
    "serving": HEAVY - {"onnxruntime"} | {"pickle", "urllib", "requests"},
    "sparseclip": HEAVY | {"pickle", "urllib", "requests", "http"},
}
TORCH_FILES = {"serving/sparse_encoder/concept_encoder.py"} | {
    f"serving/engines/{name}.py"
    for name in (
        "_torch_arranging",
        "_torch_cuda",
        "_torch_graph",
        "_torch_operators",
        "torch_engine",
    )
}
"""The engine that is torch: a plug-in, imported when it is chosen. And a module of torch, for
sentence-transformers, which nothing else imports."""
LAZY_ONLY = {"sparseclip": {"PIL"}}
"""Imported inside a function, for an image that is an object of this library."""


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
    bad = [entry for entry in found if within(entry.module, forbidden)]
    assert [
        entry
        for entry in bad
        if not (within(entry.module, {"torch"}) and entry.line.split(":")[0] in TORCH_FILES)
    ] == []
    lazy_only = LAZY_ONLY.get(room, set())
    assert [e for e in found if within(e.module, lazy_only) and not e.lazy] == []


@pytest.mark.parametrize(
    ("room", "source", "bad"),
    [
        ("bundle", "import serving.core.limits", True),
        ("bundle", "def f():\n    from training import model", True),
        ("training", "from bundle.codes import SparseCodes", False),
        ("training", "import importlib\nimportlib.import_module('serving.in_process')", True),
        ("mllm_adapter", "from training.core.resume import open_run", False),
        ("mllm_adapter", "from training.model.sparse_clip import SparseClip", True),
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


def test_no_file_and_no_folder_is_in_an_import_cycle() -> None:
    known = modules()
    graph = module_graph(known)
    assert cycle(graph) == []
    folders = folder_graph(graph, known)
    assert cycle(folders) == []
    print("\n".join(lines(folders)))


def test_a_cycle_is_seen() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_what_only_a_type_checker_reads_is_no_import() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import training.data"
    assert [entry.module for entry in imports(ast.parse(source), "x")] == ["typing.TYPE_CHECKING"]


@pytest.mark.parametrize(
    "source",
    [
        "if not TYPE_CHECKING:\n    import torch",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import torch",
    ],
)
def test_what_a_type_checker_skips_is_an_import(source: str) -> None:
    assert [entry.module for entry in imports(ast.parse(source), "x")] == ["torch"]


def test_a_table_of_plugins_names_lazy_imports() -> None:
    [entry] = imports(ast.parse("TABLE = {'a': Plugin('serving.engines.a:A', 'serve')}"), "x")
    assert (entry.module, entry.lazy) == ("serving.engines.a.A", True)


def test_no_file_outgrows_a_screenful_of_screens() -> None:
    others = (ROOT / folder for folder in ("tests", "benchmarks", "examples", "docs"))
    paths = [path for room in ROOMS for path in files(room)]
    paths += [path for folder in others for path in folder.rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert "tests/cases/images.py" in lengths
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_weights_and_code_never_come_from_a_pickle() -> None:
    """One file reads what torch.save wrote, of models that are imported, and only as tensors."""
    tensors_only = "torch.load(path, map_location='cpu', weights_only=True)"
    importer = ROOT / "training" / "importing" / "_weight_files.py"
    for room in ROOMS:
        for path in files(room):
            for node in ast.walk(ast.parse(path.read_text())):
                text = ast.unparse(node) if isinstance(node, ast.Call) else ""
                if path == importer and text == tensors_only:
                    continue
                unsafe = text.startswith(("torch.load(", "pickle.")) or "trust_remote_code" in text
                assert not unsafe, f"{path.relative_to(ROOT)}: {text}"
