"""The Markdown pages of the repository, and their fenced code blocks.

The language of a block says how it is held:

    python      runs, and must print something
    sh          each line runs, and must print something
    bash        is not run (it takes long, or needs a server): its commands are checked
    js          runs in tests/sparseclip, where Node and its gRPC packages are
    py          Python for others' clients, which runs in tests/clients
    toml, json, yaml    is parsed
    text, mermaid       output, trees and diagrams
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

LANGUAGES = {"bash", "js", "json", "mermaid", "py", "python", "sh", "text", "toml", "yaml"}

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("data", "examples")),
]

_FENCE = re.compile(r"^\s*```(.*)$")
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block."""

    place: str
    """`page:line` of its fence, relative to the repository."""
    language: str
    """What follows the opening fence; empty for a bare block."""
    code: str


def scan(name: str, text: str) -> list[Block]:
    """The fenced blocks of a page. Raises ValueError for one that is not closed."""
    blocks: list[Block] = []
    language, start, lines = "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif start == 0:
            language, start, lines = fence[1].strip(), number, []
        else:
            blocks.append(Block(f"{name}:{start}", language, "\n".join(lines) + "\n"))
            start = 0
    if start:
        raise ValueError(f"{name}:{start}: the block is not closed")
    return blocks


def blocks(*languages: str) -> list[Block]:
    """The blocks of these languages on all pages; without languages, all blocks."""
    return [
        block
        for page in PAGES
        for block in scan(str(page.relative_to(ROOT)), page.read_text())
        if not languages or block.language in languages
    ]


def inline_code(page: Path) -> Iterator[str]:
    """The code spans of a page's prose, those that stand on one line."""
    fenced = re.compile(r"^\s*```.*?^\s*```$", re.DOTALL | re.MULTILINE)
    for match in _INLINE.finditer(fenced.sub("", page.read_text())):
        yield match[1]
