"""Programs of others' clients, in processes of their own, without the code of this repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

APART = Path(os.environ.get("SPARSECLIP_CLIENTS", ROOT / ".venv-clients" / "bin" / "python"))
"""The environment that `make test-clients` sets up. Its clients need a protobuf older than ours, or
code of the package `inference` as the server has."""
BESIDE = Path(sys.executable)
"""That of the tests: of clients which can be installed beside the server."""
FOLDER = Path(__file__).parent


def run(program: str, *arguments: str, given: Any, python: Path = APART, **options: Any) -> Any:
    """What a program of this folder answers to `given`."""
    program = str(FOLDER / program)
    done = execute(program, *arguments, python=python, input=json.dumps(given), **options)
    return json.loads(done)


def execute(*arguments: str, python: Path = APART, **options: Any) -> str:
    """What Python prints there."""
    assert python.exists(), f"{python}: make test-clients sets it up"
    done = subprocess.run(
        [str(python), *arguments],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
