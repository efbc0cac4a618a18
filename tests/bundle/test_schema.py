"""Strict reading of JSON into dataclasses, and the manifest that is read so."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.manifest import SCHEMA, Manifest
from bundle.schema import (
    Fraction,
    NonNegativeInt,
    NumberRange,
    PositiveFloat,
    SchemaError,
    from_dict,
)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    size: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Tree:
    name: str
    share: float
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[int, str] = (0, "")
    maybe: float | None = None
    table: dict[str, Leaf] = dataclasses.field(default_factory=dict)
    flag: bool = False
    free: Any = None
    seconds: Annotated[float, NumberRange(0, 86_400, above_low=True)] = 1
    port: Annotated[int, NumberRange(0, 65_535)] | None = None
    rate: PositiveFloat = 1
    count: NonNegativeInt = 0
    shares: tuple[Fraction, ...] = ()


GOOD: dict[str, Any] = {"name": "x", "share": 1, "leaves": [{"size": 1}], "pair": [2, "y"]}


def test_it_builds_the_classes() -> None:
    tree = from_dict(Tree, GOOD | {"maybe": None, "table": {"k": {"size": 2, "kind": "b"}}}, "")
    assert tree == Tree(
        name="x",
        share=1.0,
        leaves=(Leaf(size=1),),
        pair=(2, "y"),
        table={"k": Leaf(size=2, kind="b")},
    )
    assert isinstance(tree.share, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"naem": "x"}, "naem: unknown key; did you mean name?"),
        ({"qqq": 1}, "qqq: unknown key"),
        ({"name": 1}, "name: must be str"),
        ({"name": None}, "name: must be str"),
        ({"share": "1"}, "share: must be float"),
        ({"share": True}, "share: must be float"),
        ({"leaves": {}}, "leaves: must be a list"),
        ({"leaves": [{"size": 1}, {"size": "1"}]}, "leaves[1].size: must be int"),
        ({"leaves": [{"size": True}]}, "leaves[0].size: must be int"),
        ({"leaves": [{}]}, "leaves[0].size: missing"),
        ({"leaves": [3]}, "leaves[0]: must be an object"),
        ({"leaves": [{"size": 1, "kind": "c"}]}, "leaves[0].kind: must be one of a, b"),
        ({"pair": [1]}, "pair: must have 2 entries"),
        ({"maybe": "x"}, "maybe: must be float"),
        ({"table": []}, "table: must be an object"),
        ({"table": {"k": {"size": 1.5}}}, "table.k.size: must be int"),
        ({"table": {22: {"size": 1}}}, "table: key 22: must be str"),
        ({"flag": 1}, "flag: must be bool"),
        ({"seconds": 0}, "seconds: must be greater than 0 and at most 86,400"),
        ({"seconds": 86_401}, "seconds: must be greater than 0 and at most 86,400"),
        ({"port": 65_536}, "port: must be 0 to 65,535"),
        ({"rate": 0}, "rate: must be greater than 0"),
        ({"count": -1}, "count: must be 0 or more"),
        ({"shares": [0, 1, 1.5]}, "shares[2]: must be 0 to 1"),
    ],
)
def test_a_mistake_names_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        from_dict(Tree, GOOD | change, "")
    assert str(caught.value) == message


def test_missing_and_no_object() -> None:
    with pytest.raises(SchemaError, match="^at.name: missing$"):
        from_dict(Tree, {"share": 1}, "at")
    for data in (None, 1, [], "x"):
        with pytest.raises(SchemaError, match="^top level: must be an object$"):
            from_dict(Tree, data, "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Tree)]), JSON))
def test_any_json_is_a_tree_or_a_schema_error(data: dict[str, Any]) -> None:
    try:
        tree = from_dict(Tree, data, "")
    except SchemaError:
        return
    assert isinstance(tree, Tree)


def manifest(tiny_bundle: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((tiny_bundle / "manifest.json").read_text())
    return data


def test_a_manifest_survives(tiny_bundle: Path) -> None:
    text = (tiny_bundle / "manifest.json").read_text()
    assert Manifest.from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", SCHEMA + 1, "schema: this version reads the schemas 1 and 2"),
        ("schema", None, "schema: this version reads the schemas 1 and 2"),
        ("name", 3, "name: must be str"),
        ("extra", 3, "extra: unknown key"),
        ("architecture.concepts", "9", "architecture.concepts: must be int"),
        ("architecture.pool", "max", "architecture.pool: must be one of cls, patch_mean"),
        ("architecture.patch_grid", [1], "architecture.patch_grid: must have 2 entries"),
        ("preprocessing.mean", [1, 2, "3"], "preprocessing.mean[2]: must be float"),
        ("training.figures.top1", "good", "training.figures.top1: must be float"),
        ("image_parity", None, "image_parity: must be an object"),
    ],
)
def test_a_manifest_with_a_mistake(
    tiny_bundle: Path, path: str, value: object, message: str
) -> None:
    data = manifest(tiny_bundle)
    *sections, last = path.split(".")
    place = data
    for section in sections:
        place = place[section]
    place[last] = value
    with pytest.raises(SchemaError) as caught:
        Manifest.from_json(json.dumps(data))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, "\ud800"])
def test_a_manifest_that_is_none(text: str) -> None:
    with pytest.raises(SchemaError, match=r"^manifest\.json: not"):
        Manifest.from_json(text)
