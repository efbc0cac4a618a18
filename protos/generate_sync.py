"""Writes the blocking client from the asyncio one: `python protos/generate_sync.py`.

The two differ in `async` and `await` and in a few names, so only the asyncio files are edited. The
I/O itself, in which they really differ, is written out for both in sparseclip/_channel.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "sparseclip"
GENERATED = {
    "aio.py": "client.py",
    "_base_client_aio.py": "_base_client.py",
    "_transport_aio.py": "_transport.py",
}
"""asyncio file: the file for threads that is made of it."""

SENTENCES = {
    "The clients for asyncio:": "The blocking clients:",
    "health, for asyncio.": "health, for threads.",
    "Bound to one event loop.": "Threads may share one.",
    "Bound to the running event loop.": "Threads may share it.",
}
NAMES = {
    r" \| AsyncIterable\[ImageInput \| Item\]": "",
    r"\bimport asyncio\b": "import time",
    r"\basyncio\.sleep\b": "time.sleep",
    r"\b(_base_client|_transport)_aio\b": r"\1",
    r"\b(_?)Async(?=[A-Z])": r"\1",
    r"\baclosing\b": "closing",
    r"\b__a(enter|exit)__\b": r"__\1__",
    r"\banext\b": "next",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\biterate_async\(": "iter(",
    r"\b(async|await) ": "",
}
RULES = ["--fix", "--unsafe-fixes", "--select", "F401,I,UP028"]


def blocking(source: str, name: str) -> str:
    """The text of the file for threads, from that of its asyncio file `name`."""
    for sentence, replacement in SENTENCES.items():
        source = source.replace(sentence, replacement)
    for pattern, replacement in NAMES.items():
        source = re.sub(pattern, replacement, source)
    header = f"# Written by protos/generate_sync.py from {name}: edit that file.\n"
    target = str(PACKAGE / GENERATED[name])
    checked = _ruff(["check", "--quiet", *RULES, "--stdin-filename", target, "-"], header + source)
    return _ruff(["format", "--stdin-filename", target, "-"], checked)


def _ruff(arguments: list[str], text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    for source_name, target_name in GENERATED.items():
        text = blocking((PACKAGE / source_name).read_text(), source_name)
        (PACKAGE / target_name).write_text(text)
