"""What a child process says on standard output."""

from __future__ import annotations

import subprocess
import sys

from tests.serving.support.server_process import environment

CHATTY = """
import os
from serving.core.child_process import answers_on_stdout
answer = answers_on_stdout()
print("a library says hello", flush=True)
os.write(1, b"so does one in C")
answer({"address": "here"})
"""


def test_libraries_cannot_spoil_an_answer() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHATTY], env=environment(), capture_output=True, text=True
    )
    assert result.stdout == '{"address": "here"}\n'
    assert "hello" in result.stderr
    assert "in C" in result.stderr
