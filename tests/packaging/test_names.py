"""One word for one thing: a class name is defined once in the whole project."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.packaging.import_graph import ROOMS, files
from tests.support.paths import ROOT


def class_names(tree: ast.Module) -> list[str]:
    """Classes of a file, and aliases of types. A leading underscore makes no other name."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and is_class_name(target.id):
                names.append(target.id)
    return [name.lstrip("_") for name in names]


def is_class_name(name: str) -> bool:
    bare = name.lstrip("_")
    return bare[:1].isupper() and not bare.isupper() and "_" not in bare


def test_a_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for room in ROOMS:
        for path in files(room):
            for name in class_names(ast.parse(path.read_text())):
                places[name].append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_the_check_itself_sees_classes_and_aliases() -> None:
    source = "class Row: ...\n_Row = list[int]\nLIMIT = 3\nKind: type = int\nvalue = 1\nT = 2"
    assert class_names(ast.parse(source)) == ["Row", "Row", "Kind"]
