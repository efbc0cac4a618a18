"""The wheels hold what the commands need: recipes and the demo bundle are found without a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from bundle.store import current_version, open_bundle
from tests.support.paths import ROOT

PACKAGES = {name: name for name in ("bundle", "mllm_adapter", "serving", "training")} | {
    "protos/sparseclip": "sparseclip"
}
"""Folder -> where it lies in the wheel."""
DEMO = ROOT / "models" / "demo"


def install(project: Path) -> Path:
    """The project's wheel, unpacked as an installation would."""
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    [wheel] = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(project / "installed")
    return project / "installed"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources."""
    work = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / name)
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, work / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return install(work)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of packages/demo that also holds an older version of the bundle."""
    work = tmp_path_factory.mktemp("wheel") / "demo"
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT / "packages" / "demo", work, ignore=ignored)
    older = work / "sparseclip_demo" / "demo" / "1"
    older.mkdir()
    (older / "manifest.json").write_text("{}")
    return install(work)


def metadata(folder: Path) -> Distribution:
    """The one distribution that is installed in a folder."""
    [found] = distributions(path=[str(folder)])
    return found


def sparseclip(
    folder: Path, installed: Path, demo: Path | None, arguments: str
) -> subprocess.CompletedProcess[str]:
    """The console command with these wheels in place of the clone, run in another folder."""
    absent = {} if demo else {"sparseclip_demo": None}
    program = (
        "import sys\n"
        f"sys.path[:0] = {[str(wheel) for wheel in (installed, demo) if wheel]}\n"
        f"sys.modules.update({absent})\n"
        "from serving.cli.main import main\n"
        "main(prog_name='sparseclip')"
    )
    hidden = ("PYTHONPATH", "SPARSECLIP_BUNDLE")
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments.split()],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
        timeout=120,
    )


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
        "from training.data.data_recipe import find_recipe, load_recipe\n"
        "from training.trainer.training_recipe import TrainingRecipe\n"
        "from mllm_adapter.adapter_recipe import AdapterRecipe\n"
        "names = [kind.load('demo').name for kind in (TrainingRecipe, AdapterRecipe)]\n"
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


def test_the_demo_wheel_is_the_current_bundle_and_nothing_else(demo: Path) -> None:
    version = current_version(DEMO)
    package = demo / "sparseclip_demo"
    assert sorted(path.name for path in package.iterdir()) == ["__init__.py", "demo"]
    assert sorted(path.name for path in (package / "demo").iterdir()) == [version, "CURRENT"]
    opened = open_bundle(package / "demo")  # every file, and no other, is as the manifest says
    manifest = (DEMO / version / "manifest.json").read_bytes()
    assert (opened.root / "manifest.json").read_bytes() == manifest


def test_the_demo_wheel_says_what_it_is(demo: Path) -> None:
    version = current_version(DEMO)
    found = metadata(demo)
    assert (found.name, found.version) == ("sparseclip-demo", version)
    assert found.metadata["License-Expression"] == "Apache-2.0"
    assert found.metadata["Requires-Python"] == ">=3.11"
    assert found.requires is None
    assert (DEMO / version / "CARD.md").read_text().strip() in str(found.metadata.get_payload())
    [license_file] = [path for path in found.files or () if "licenses" in path.parts]
    assert Path(str(license_file.locate())).read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_extra_demo_asks_for_that_version(installed: Path) -> None:
    found = metadata(installed)
    version = current_version(DEMO)
    assert f'sparseclip-demo=={version}.*; extra == "demo"' in (found.requires or ())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(found.metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])


def test_the_installed_demo_bundle_is_the_default(
    installed: Path, demo: Path, tmp_path: Path
) -> None:
    image = ROOT / "docs" / "images" / "cat.png"
    done = sparseclip(tmp_path, installed, demo, f"classify {image} --labels cat,dog")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cat" in done.stdout


@pytest.mark.parametrize("command", ["serve", "embed --text cat", "concepts list"])
def test_no_bundle_is_one_line_that_says_what_to_install(
    installed: Path, tmp_path: Path, command: str
) -> None:
    done = sparseclip(tmp_path, installed, None, command)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(
        ": no bundle: name one, set SPARSECLIP_BUNDLE, or pip install 'sparseclip[demo]'"
    )
