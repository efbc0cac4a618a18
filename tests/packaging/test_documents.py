"""The README and the guides: their blocks run, their links lead somewhere, their table is true."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.auth.tokens import TokenFile
from serving.core.config import load_config
from serving.core.metrics import Metrics
from serving.engines.base import EngineConfig
from serving.in_process import local_server
from tests.packaging.limits_table import current, table
from tests.packaging.pages import PAGES, Block, blocks
from tests.serving.support.server_process import Process
from tests.support.paths import ROOT

README = ROOT / "README.md"
ADDRESS = "localhost:50051"
HTTP_ADDRESS = "http://localhost:8080"


@pytest.fixture(scope="module")
def address(chat_bundle: Path) -> Iterator[str]:
    with local_server(chat_bundle) as opened:
        yield opened


@pytest.fixture(scope="module")
def http_address(chat_bundle: Path) -> Iterator[str]:
    process = Process(chat_bundle, "--http-port", "0")
    try:
        assert process.http_address
        yield process.http_address
    finally:
        process.close()


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """A program or a line with the addresses of servers that run."""

    def addressed(code: str) -> str:
        for shown, name in ((HTTP_ADDRESS, "http_address"), (ADDRESS, "address")):
            if shown in code:
                code = code.replace(shown, request.getfixturevalue(name))
        return code

    return addressed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the blocks name."""
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "docs" / "images")
    shutil.copytree(ROOT / "docs" / "images", tmp_path / "images")
    for name in ("cat.png", "dog.png"):
        shutil.copy(ROOT / "docs" / "images" / name, tmp_path / name)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_python_blocks_run(block: Block, program: Callable[[str], str], folder: Path) -> None:
    assert run([sys.executable, "-c", program(block.code)], folder), f"{block.place} prints nothing"


@pytest.mark.parametrize(
    ("place", "line"),
    [(block.place, line) for block in blocks("sh") for line in block.code.splitlines()],
)
def test_shell_lines_run(
    place: str, line: str, program: Callable[[str], str], folder: Path
) -> None:
    assert run(["bash", "-c", program(line)], folder), f"{place} prints nothing"


def test_configuration_blocks_are_accepted(tmp_path: Path) -> None:
    server, tokens, engine = (block.code for block in blocks("toml"))
    (tmp_path / "server.toml").write_text(server)
    (tmp_path / "tokens.toml").write_text(tokens)
    assert load_config(tmp_path / "server.toml").limits.drain_s == 10
    (tmp_path / "engine.toml").write_text(engine)
    assert load_config(tmp_path / "engine.toml").engine.cache == "engines"
    [settings] = tomllib.loads(engine).values()
    assert set(settings) == {field.name for field in dataclasses.fields(EngineConfig)}
    assert TokenFile(tmp_path / "tokens.toml", Metrics()).find("a guess") is None


def test_there_are_blocks_to_run() -> None:
    assert len(blocks("python")) >= 5
    assert len(blocks("sh")) >= 1


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) < 200


def test_the_table_of_limits_is_true() -> None:
    assert current() == table(), "run python -m tests.packaging.limits_table"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tree_names_what_is_there() -> None:
    [tree] = re.findall(r"## What is where\n\n```text\n(.*?)```", README.read_text(), re.DOTALL)
    for line in tree.splitlines():
        for name in line.split("   ")[0].split(", "):
            assert (ROOT / name.strip()).is_dir(), name
