"""A hook of mkdocs: the site's pages lie as in the repository, so that a link works in both.

mkdocs reads one folder (docs/). README.md, CONTRIBUTING.md and others lie outside, and the guides
link to them as `../CONTRIBUTING.md`. So the site gets every page under its path in the repository,
and every other file that a page links to (an image, a licence, an example) beside them.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.livereload import LiveReloadServer
from mkdocs.structure.files import File, Files

PAGES = ("*.md", "docs/**/*.md", "data/README.md", "examples/README.md")
SOURCES = ("bundle", "mllm_adapter", "protos", "serving", "training")
"""Whose docstrings the reference shows."""

_LINK = re.compile(r"\]\(([^)#:\s]+)[^)]*\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the pages of docs/ by those of the repository; the theme's files stay."""
    root = Path(config.config_file_path).resolve().parent
    pages = _pages(root)
    linked = {
        target.resolve()
        for page in pages
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if (target := page.parent / link).is_file()
    }
    kept = [file for file in files if file.generated_by or file.src_dir != config.docs_dir]
    repository = [
        File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path))
        for path in sorted(pages | linked)
    ]
    return Files([*kept, *repository])


def on_serve(server: LiveReloadServer, config: MkDocsConfig, builder: object) -> LiveReloadServer:
    """Builds the site again when a page or a docstring outside of docs/ changes."""
    root = Path(config.config_file_path).resolve().parent
    for path in (*sorted(_pages(root)), *(root / name for name in SOURCES)):
        server.watch(str(path))
    return server


def _pages(root: Path) -> set[Path]:
    return {page for pattern in PAGES for page in root.glob(pattern)}
