"""Fetching: pinned, verified, never half done, and clear about what is wrong."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.data_recipe import PackageSpec
from training.data.fetch import FetchError, cached_archive, fetch, members


def spec(content: bytes) -> PackageSpec:
    """A package whose archive has this content."""
    sha256 = hashlib.sha256(content).hexdigest()
    return PackageSpec(manager="npm", name="@scope/icons", version="1.2.3", sha256=sha256)


@pytest.fixture
def archive(tarball: Callable[[dict[str, bytes]], bytes]) -> bytes:
    """The archive that the registry serves."""
    return tarball({"a.json": b"{}", "deep/b.txt": b"b"})


@pytest.fixture
def npm(tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for npm that copies `archive` and counts its runs in `runs`."""
    home = tmp_path / "client"
    home.mkdir()
    (home / "archive").write_bytes(archive)
    script = home / "npm"
    script.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, shutil, sys\n"
        f"home = pathlib.Path({str(home)!r})\n"
        "with (home / 'runs').open('a') as log: log.write(' '.join(sys.argv[1:]) + '\\n')\n"
        "if (home / 'fail').exists():\n"
        "    print('npm error 404 no such package', file=sys.stderr); sys.exit(1)\n"
        "shutil.copy(home / 'archive', 'scope-icons-1.2.3.tgz')\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    return home


def test_a_package_is_downloaded_once(npm: Path, tmp_path: Path, archive: bytes) -> None:
    assert cached_archive(spec(archive), tmp_path / "cache") is None
    first = fetch(spec(archive), tmp_path / "cache")
    assert cached_archive(spec(archive), tmp_path / "cache") == first
    assert cached_archive(spec(b"another"), tmp_path / "cache") is None
    assert fetch(spec(archive), tmp_path / "cache") == first
    assert (npm / "runs").read_text().splitlines() == ["pack @scope/icons@1.2.3 --silent"]
    found = dict(members(first, lambda name: name.endswith((".json", ".txt"))))
    assert found == {"a.json": b"{}", "deep/b.txt": b"b"}


def test_a_damaged_cache_entry_is_fetched_again(npm: Path, tmp_path: Path, archive: bytes) -> None:
    path = fetch(spec(archive), tmp_path / "cache")
    path.write_bytes(archive[:-4])
    assert fetch(spec(archive), tmp_path / "cache").read_bytes() == archive
    assert len((npm / "runs").read_text().splitlines()) == 2


def test_another_checksum_names_the_package_and_leaves_nothing(npm: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"npm:@scope/icons@1\.2\.3: checksum mismatch") as caught:
        fetch(spec(b"something else"), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "npm").iterdir()) == []


def test_a_failing_client_is_quoted_in_one_line(npm: Path, tmp_path: Path, archive: bytes) -> None:
    (npm / "fail").touch()
    with pytest.raises(FetchError, match="npm failed: npm error 404 no such package") as caught:
        fetch(spec(archive), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_missing_client_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=r"npm:@scope/icons@1\.2\.3: npm is not installed"):
        fetch(spec(archive), tmp_path / "cache")
