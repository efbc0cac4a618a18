"""The files of the page. They are read once: what is not among them cannot be asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


@dataclass(frozen=True, kw_only=True)
class PageFile:
    """One file, as a browser gets it."""

    content: bytes
    media_type: str
    etag: str


def read_page() -> Mapping[str, PageFile]:
    """Every file of the page by its path, such as `js/main.js`; `""` is the page itself."""
    found = {
        path.relative_to(FOLDER).as_posix(): _page_file(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }
    return {"": found["index.html"], **found}


def _page_file(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(
        content=content,
        media_type=_MEDIA_TYPES[path.suffix],
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )
