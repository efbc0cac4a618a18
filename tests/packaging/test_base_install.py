"""The base install: a client that needs no torch and no onnxruntime, and says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sparseclip.conftest import limits
from tests.sparseclip.scripted import Scripted, start
from tests.support.paths import ROOT

BASE = [sys.executable, str(Path(__file__).with_name("base_install.py"))]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BASE, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    path = f"unix:{tmp_path}/s"
    server, _ = start(Scripted(limits=limits()), path)
    yield path
    server.stop(None).wait()


def test_the_client_commands_work_against_a_server(address: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"aab")
    done = run("embed", "--server", address, str(tmp_path / "a.png"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["values"] == [2.0, 1.0]
    done = run("classify", "--server", address, str(tmp_path / "a.png"), "--labels", "a,c")
    assert done.returncode == 0, done.stderr
    assert "a.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("embed", "--text", "a cat"), "serve"),
        (("serve",), "serve"),
        (("chat", "what is this?"), "chat"),
        (("train", "demo"), "train"),
    ],
)
def test_a_missing_extra_is_one_line(arguments: tuple[str, ...], extra: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.endswith(f"pip install 'sparseclip[{extra}]'")


def test_the_base_dependencies_are_the_listed_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {entry.split(">")[0] for entry in project["dependencies"]}
    assert names == {
        "click",
        "googleapis-common-protos",
        "grpcio",
        "numpy",
        "protobuf",
        "rich",
        "scipy",
    }


def test_the_floors_are_what_the_generated_code_demands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floors = dict(entry.split(">=") for entry in project["dependencies"])
    generated = ROOT / "protos" / "sparseclip" / "v1"
    assert (
        f"GRPC_GENERATED_VERSION = '{floors['grpcio']}'"
        in (generated / "types_pb2_grpc.py").read_text()
    )
    assert (
        f"# Protobuf Python Version: {floors['protobuf']}\n"
        in (generated / "types_pb2.py").read_text()
    )


def test_constraints_pin_versions_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    for line in pins:
        name, _, version = line.partition("==")
        assert name, line
        assert version[:1].isdigit(), line
        assert "+" not in version, f"{line}: a local build"
        assert "/" not in line, f"{line}: an address"
