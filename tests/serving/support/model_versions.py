"""Directories of models with versions that differ in what they answer."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from bundle.manifest import Manifest


def copy_version(
    bundle: Path, models: Path, version: str, *, name: str = "tiny", **preprocessing: Any
) -> Path:
    """The bundle as another version of `name`, with other preprocessing if given."""
    target = models / name / version
    shutil.copytree(bundle, target)
    path = target / "manifest.json"
    manifest = Manifest.from_json(path.read_text())
    changed = dataclasses.replace(
        manifest,
        name=name,
        version=version,
        preprocessing=dataclasses.replace(manifest.preprocessing, **preprocessing),
    )
    path.write_text(changed.to_json())
    return target


def damage(version: Path) -> None:
    """Changes the last byte of a graph."""
    graph = version / "image.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")


def three_versions(bundle: Path, models: Path) -> Path:
    """Versions 1, 2 and a damaged 3 of `tiny`, of which 2 is current. Gives version 1."""
    for version in ("1", "2"):
        copy_version(bundle, models, version)
    damage(copy_version(bundle, models, "3"))
    (models / "tiny" / "CURRENT").write_text("2\n")
    return models / "tiny" / "1"
