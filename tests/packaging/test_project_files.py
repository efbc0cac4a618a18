"""What tools read beside the code: citation, pre-commit, continuous integration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.packaging.command_lines import check_command
from tests.support.paths import ROOT


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version() -> None:
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    [paper] = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2601.20075"


def test_the_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "\n## Unreleased\n" in text
    assert f"\n## {project()['version']} - 20" in text


def test_pre_commit_runs_the_tools_of_the_environment() -> None:
    [repository] = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"  # nothing is fetched
    entries = {hook["id"]: hook["entry"].split() for hook in repository["hooks"]}
    assert list(entries) == ["ruff-check", "ruff-format", "mypy"]
    for entry in entries.values():
        if entry[0] == "make":
            check_command(entry)
        else:
            tool = entry[0].removeprefix(".venv/bin/")
            assert any(line.startswith(tool) for line in project()["optional-dependencies"]["dev"])


def test_continuous_integration_runs_make_test() -> None:
    [job] = read(".github/workflows/ci.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make test"]


def test_contributing_and_the_reference_have_every_table_of_plugins() -> None:
    tables = {
        (path.parent.relative_to(ROOT), name)
        for room in ("bundle", "mllm_adapter", "serving", "training")
        for path in (ROOT / room).rglob("__init__.py")
        for name in re.findall(r"^([A-Z_]+): Plugins\[", path.read_text(), re.MULTILINE)
    }
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    reference = (ROOT / "docs" / "api" / "plugins.md").read_text()
    for folder, name in tables:
        assert re.search(rf"^\|.*`{folder}/`.*`{name}`", contributing, re.MULTILINE), name
        assert f"::: {'.'.join(folder.parts)}.base\n" in reference, name
    named = re.findall(
        r"^\|[^|]+\| `([a-z_/]+)/` \|[^|]+\| `([A-Z_]+)` \|", contributing, re.MULTILINE
    )
    assert {(Path(folder), name) for folder, name in named} == tables
