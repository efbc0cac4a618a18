"""`sparseclip` exports every type that its own signatures and fields name, and stays quick."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import sparseclip

PUBLIC = {name: getattr(sparseclip, name) for name in sparseclip.__all__}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
DEFINED = {
    node.name if isinstance(node, ast.ClassDef) else ast.unparse(node.targets[0])
    for path in Path(sparseclip.__file__).parent.glob("*.py")
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef | ast.Assign)
}
"""The classes and aliases at the top level of the package's files."""


def annotations(kind: type) -> Iterator[str]:
    """The annotations of a class's fields, its public methods and its constructor."""
    for base in kind.__mro__:
        if not base.__module__.startswith("sparseclip"):
            continue
        yield from base.__annotations__.values() if dataclasses.is_dataclass(base) else ()
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                yield from (text for text in function.__annotations__.values() if text)


def own_names(kind: type) -> set[str]:
    """The names in a class's annotations that a file of this package defines."""
    return DEFINED & {
        node.id if isinstance(node, ast.Name) else node.attr
        for text in annotations(kind)
        for node in ast.walk(ast.parse(text, mode="eval"))
        if isinstance(node, ast.Name | ast.Attribute)
    }


@pytest.mark.parametrize("name", CLASSES)
def test_every_type_that_a_signature_names_is_public(name: str) -> None:
    assert own_names(CLASSES[name]) - set(PUBLIC) == set()


def test_the_walk_sees_methods_fields_properties_and_aliases() -> None:
    assert {"Explanation", "ConceptKey", "ImageInput", "ChatEvent"} <= own_names(sparseclip.Client)
    assert {"LoadedModel", "Health"} <= own_names(sparseclip.AdminClient)
    assert {"ItemStatus", "PatchMap"} <= own_names(sparseclip.Embedding)
    assert own_names(sparseclip.Embeddings) == {"Embedding", "FloatArray"}


def test_the_version_is_that_of_the_distribution() -> None:
    assert sparseclip.__version__ == version("sparseclip")


def test_the_import_leaves_scipy_to_those_who_want_a_matrix() -> None:
    program = "import sys, sparseclip; sparseclip.Client; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
