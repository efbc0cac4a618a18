"""Manifests of schema 1 in terms of schema 2. All of them are of sparse models trained here."""

from __future__ import annotations

from typing import Any

from bundle.schema import SchemaError

_ADDED: dict[str, Any] = {"kind": "sparse", "tokenization": {"kind": "clip_bpe"}}
"""Fields of the manifest that schema 2 requires, with what schema 1 meant."""
_NEW_FIELDS = (*_ADDED, "origin", "source_parity")
_NEW_ARCHITECTURE_FIELDS = ("score", "logit_bias")
_REQUIRED = ("training", "patch_parity")
_REQUIRED_OF_ARCHITECTURE = (
    "concepts",
    "head",
    "pool",
    "patch_grid",
    "image_topk",
    "text_topk",
    "patch_topk",
    "logit_scale_cap",
)
"""Fields that schema 2 made optional."""


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest of schema 1, with those that schema 2 requires. `schema` stays 1.

    Raises SchemaError for a field that is missing, or that schema 1 does not have.
    """
    _check(data, "", _NEW_FIELDS, _REQUIRED)
    architecture = data.get("architecture")
    if isinstance(architecture, dict):
        at = "architecture."
        _check(architecture, at, _NEW_ARCHITECTURE_FIELDS, _REQUIRED_OF_ARCHITECTURE)
    return data | _ADDED


def _check(
    fields: dict[str, Any], at: str, new: tuple[str, ...], required: tuple[str, ...]
) -> None:
    for name in new:
        if name in fields:
            raise SchemaError(f"{at}{name}: unknown key")
    for name in required:
        if fields.get(name) is None:
            raise SchemaError(f"{at}{name}: missing")


def downgraded(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest that was read from schema 1, as they were."""
    architecture = {
        name: value
        for name, value in fields["architecture"].items()
        if name not in _NEW_ARCHITECTURE_FIELDS
    }
    kept = {name: value for name, value in fields.items() if name not in _NEW_FIELDS}
    return kept | {"architecture": architecture}
