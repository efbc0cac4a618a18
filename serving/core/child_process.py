"""What a process that this one starts inherits from it, and how it answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


def python_path() -> str:
    """This process's import path as PYTHONPATH, so that a child imports the same modules."""
    return os.pathsep.join(entry or os.curdir for entry in sys.path)


def python_module(module: str, settings: Mapping[str, Any]) -> list[str]:
    """The command that runs a module of ours in a process of its own, with settings as JSON."""
    # -P: a folder named `serving` in the working directory must not be imported.
    return [sys.executable, "-P", "-m", module, json.dumps(settings)]


def answers_on_stdout() -> Callable[[dict[str, str]], None]:
    """In such a process: a function that writes lines of JSON on standard output, of which they are
    the only ones from now on. What a library prints there goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(line: dict[str, str]) -> None:
        print(json.dumps(line), file=answers, flush=True)

    return answer
