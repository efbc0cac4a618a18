"""The wheel holds what the commands need: without a clone beside it, recipes are found by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = {name: name for name in ("bundle", "mllm_adapter", "serving", "training")} | {
    "protos/sparseclip": "sparseclip"
}
"""Folder -> where it lies in the wheel."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, unpacked as an installation would."""
    work = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / name)
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=work, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    [wheel] = (work / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "installed")
    return work / "installed"


def test_every_file_of_the_packages_is_in_it(installed: Path) -> None:
    wanted = {
        Path(inside) / path.relative_to(ROOT / folder)
        for folder, inside in PACKAGES.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(wanted) > 100
    assert {str(path) for path in wanted if not (installed / path).is_file()} == set()


def test_recipes_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from training.data.recipe import find_recipe, load_recipe\n"
        "from training.trainer.recipe import load_recipe as load_run\n"
        "from mllm_adapter.recipe import load_recipe as load_adapter\n"
        "names = [load('demo').name for load in (load_run, load_adapter)]\n"
        "print(find_recipe('demo'), load_recipe(find_recipe('demo')).name, *names)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(installed)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    path = installed / "training" / "data" / "recipes" / "demo.yaml"
    assert (done.stdout, done.stderr) == (f"{path} demo demo demo\n", "")
