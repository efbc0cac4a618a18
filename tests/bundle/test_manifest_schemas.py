"""Manifests of schema 1 beside those of schema 2, and what does not fit together in one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bundle.manifest import Manifest
from bundle.schema import SchemaError

OLD = Path(__file__).parents[1] / "fixtures" / "manifest_schema_1.json"
"""The manifest of version 7 of the demo bundle."""


@pytest.fixture
def old() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(OLD.read_text())
    assert data["schema"] == 1
    return data


@pytest.fixture
def new(tiny_bundle: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((tiny_bundle / "manifest.json").read_text())
    assert data["schema"] == 2
    return data


def test_schema_1_is_read_and_keeps_its_digest() -> None:
    manifest = Manifest.from_json(OLD.read_text())
    assert (manifest.kind, manifest.tokenization.kind) == ("sparse", "clip_bpe")
    assert manifest.architecture.score == "softmax"
    assert manifest.digest == hashlib.sha256(OLD.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("", "kind", "sparse", "kind: unknown key"),
        ("architecture", "score", "sigmoid", "architecture.score: unknown key"),
        ("", "training", None, "training: missing"),
        ("architecture", "pool", None, "architecture.pool: missing"),
    ],
)
def test_schema_1_is_read_as_strictly_as_before(
    old: dict[str, Any], section: str, name: str, value: object, message: str
) -> None:
    fields = old[section] if section else old
    fields[name] = value
    if value is None:
        del fields[name]
    with pytest.raises(SchemaError, match=f"^{message}$"):
        Manifest.from_json(json.dumps(old))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "dense"}, "kind: sparse with concepts, dense without"),
        ({"architecture": {"concepts": 0}}, "architecture.image_topk: a dense model has none"),
        ({"architecture": {"head": None}}, "architecture.head, pool: a sparse model has both"),
        ({"architecture": {"patch_topk": 0}}, "architecture.patch_topk: a model with patches"),
        ({"architecture": {"text_topk": 0}}, "architecture.image_topk, text_topk: a sparse model"),
        ({"architecture": {"score": "dot"}}, "architecture.score: must be one of softmax, sigmoid"),
        ({"tokenization": {"kind": "words"}}, "tokenization.kind: must be one of clip_bpe, bpe"),
    ],
)
def test_what_does_not_fit_together(
    new: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    for name, value in changes.items():
        new[name] = new[name] | value if isinstance(value, dict) else value
    with pytest.raises(SchemaError) as caught:
        Manifest.from_json(json.dumps(new))
    assert str(caught.value).startswith(message)


def test_a_dense_manifest(new: dict[str, Any]) -> None:
    sparse = ("concepts", "head", "pool", "image_topk", "text_topk", "patch_topk", "config")
    kept = {k: v for k, v in new["architecture"].items() if k not in sparse}
    data = new | {"kind": "dense", "architecture": kept | {"score": "sigmoid", "logit_bias": -10}}
    manifest = Manifest.from_json(json.dumps(data))
    assert not manifest.architecture.is_sparse
    assert Manifest.from_json(manifest.to_json()) == manifest
    data["architecture"].pop("dense")
    with pytest.raises(SchemaError, match=r"^architecture\.dense: a dense model shares"):
        Manifest.from_json(json.dumps(data))
