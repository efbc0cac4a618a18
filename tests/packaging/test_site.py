"""The documentation site builds without network and without a warning, and lacks no public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

import sparseclip
from tests.packaging.pages import PAGES
from tests.support.paths import ROOT

OFFLINE = """
import socket, sys
def refuse(*_):
    raise OSError("the build asked for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""
CONTRACTS = (
    "bundle.plugins.Plugins",
    "bundle.store.open_bundle",
    "mllm_adapter.engines.base.GenerationEngine",
    "serving.engines.base.Engine",
)


def build(folder: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Builds the site in a process that cannot connect to anything."""
    command = ["build", "--strict", "-f", str(config), "--site-dir", str(folder)]
    return subprocess.run(
        [sys.executable, "-c", OFFLINE, *command],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in PAGES:
        path = page.relative_to(ROOT).with_suffix("")
        folder = path.parent if path.name == "README" else path
        assert (site / folder / "index.html").is_file(), page


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert re.search(rf"[ :]{re.escape(str(page.relative_to(ROOT)))}$", text, re.MULTILINE), (
            page
        )


def test_a_page_takes_nothing_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and images are the site's own: a reader needs no network either."""
    elsewhere = re.compile(
        r"""<(?:script|img|iframe)[^>]+src=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//"""
    )
    for page in site.rglob("*.html"):
        assert elsewhere.search(page.read_text()) is None, page
    assert elsewhere.search('<script src="https://example.org/a.js">') is not None


def test_images_of_the_guides_are_there(site: Path) -> None:
    assert (site / "benchmarks" / "results" / "quality_earlier.png").is_file()
    assert (site / "docs" / "assets" / "overview.png").is_file()


def test_the_reference_has_every_public_name(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = {f"sparseclip.{name}" for name in sparseclip.__all__ if name != "__version__"}
    assert public - names == set()
    assert set(CONTRACTS) - names == set()


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """Of a site with one page: that page, with a link to a file and one to an anchor."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A page\n\n[b](b.md) and [c](#c)\n")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    kept = {key: settings[key] for key in ("site_name", "strict", "validation", "theme")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(kept))
    done = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "'b.md', but the target is not found" in done.stderr
    assert "'#c', but there is no such anchor" in done.stderr
