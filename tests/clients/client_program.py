"""Programs of others' clients, in the environment that `make test-clients` sets up.

They need a protobuf older than ours, and code of the package `inference` as the server has, so they
run in processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

PYTHON = Path(os.environ.get("SPARSECLIP_CLIENTS", ROOT / ".venv-clients" / "bin" / "python"))
FOLDER = Path(__file__).parent


def run(program: str, *arguments: str, given: Any, **options: Any) -> Any:
    """What a program of this folder answers to `given`."""
    done = execute(str(FOLDER / program), *arguments, input=json.dumps(given), **options)
    return json.loads(done)


def execute(*arguments: str, **options: Any) -> str:
    """What Python prints there."""
    assert PYTHON.exists(), f"{PYTHON}: make test-clients sets it up"
    done = subprocess.run(
        [str(PYTHON), *arguments],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
