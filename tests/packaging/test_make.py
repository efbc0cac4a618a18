"""The two commands: what `make` would run, without running it."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.paths import ROOT


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_the_default_and_lists_the_two_commands() -> None:
    assert make() == make("help")
    targets = [line.split()[0] for line in make().splitlines()]
    assert {
        "serve",
        "test",
        "lint",
        "proto",
        "proto-release",
        "bench",
        "wheels",
        "test-wheel",
    } <= set(targets)


def test_test_runs_every_check_and_ends_with_the_tests() -> None:
    lines = make("-n", "-B", "test").splitlines()
    plan = "\n".join(lines)
    for check in ("ruff check .", "ruff format --check .", "mypy --strict", "buf lint"):
        assert check in plan
    assert "buf breaking build/protos.binpb --against protos/released.binpb" in plan
    assert "-m pytest" in lines[-1]
    [install] = [line for line in lines if "pip install" in line]
    assert "-c constraints.txt torch==2.13.0 torchvision==0.28.0 -e" in install


def test_serve_installs_chat_or_leaves_torch_out() -> None:
    lines = make("-n", "-B", "serve").splitlines()
    assert lines[-1].startswith(".venv/bin/sparseclip serve")
    [install] = [line for line in lines if "pip install" in line]
    assert install.endswith("-c constraints.txt torch==2.13.0 -e '.[chat,http]'")
    lines = make("-n", "-B", "serve", "CHAT=off").splitlines()
    assert lines[-1].startswith(".venv/bin/sparseclip serve --chat off")
    assert not any("torch" in line for line in lines)


def test_serve_opens_the_http_port_unless_it_is_off() -> None:
    assert "--http-port 8080" in make("-n", "serve")
    assert "--http-port 9000" in make("-n", "serve", "HTTP=9000")
    assert "--http-port" not in make("-n", "serve", "HTTP=off")


def test_wheels_are_built_from_nothing_that_an_earlier_build_left() -> None:
    clean, build = make("-n", "-o", ".venv/bin/python", "wheels").splitlines()
    assert {"build/lib", "packages/demo/build"} <= set(clean.removeprefix("rm -rf ").split())
    assert build.endswith("pip wheel --quiet --no-deps --wheel-dir dist . ./packages/demo")


@pytest.mark.parametrize(
    "room",
    ["bundle", "protos", "training", "mllm_adapter", "serving", "benchmarks", "examples", "docs"],
)
def test_every_room_is_typed(room: str) -> None:
    [types] = [line for line in make("-n", "types").splitlines() if "mypy" in line]
    assert room in types.split()


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
