"""`sparseclip --help` is quick because it imports next to nothing: counted, not timed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from serving.cli.main import COMMANDS, main

HEAVY = ["torch", "onnxruntime", "grpc", "google", "numpy", "scipy", "PIL", "tokenizers"]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from serving.cli.main import main\n"
        "try:\n    main(['--help'], prog_name='sparseclip')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == "[]\n"
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_exists(name: str) -> None:
    module = COMMANDS[name].target.split(":")[0]
    assert importlib.util.find_spec(module) is not None, f"{module} is missing"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_helps(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help or command.short_help


def test_evaluate_is_of_a_model_or_of_steering() -> None:
    for arguments, usage in (([], "evaluate [OPTIONS] [MODEL]"), (["steering"], "[ADAPTER]")):
        done = CliRunner().invoke(main, ["evaluate", *arguments, "--help"])
        assert done.exit_code == 0
        assert usage in done.output


def test_an_unknown_subcommand_is_a_usage_error() -> None:
    done = CliRunner().invoke(main, ["embedd"])
    assert done.exit_code == 2
    assert "No such command 'embedd'" in done.output


def test_version() -> None:
    done = CliRunner().invoke(main, ["--version"])
    assert done.output.startswith("sparseclip, version ")
