"""Checks that a bundle is what its manifest says. Nothing but the manifest is parsed for it."""

from __future__ import annotations

import hashlib
import mmap
import os
import pickletools
import re
import stat
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bundle.manifest import FileEntry, Manifest
from bundle.onnx_tensors import OnnxFileError, has_external_tensors
from bundle.schema import SchemaError


class BundleError(ValueError):
    """A bundle that is refused. The message names the file by its path in the bundle."""


class FileStamp(NamedTuple):
    """Differs after a file was replaced, or written to: a writer cannot set `changed_ns`."""

    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int


MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 2**20
"""A larger manifest is refused unread."""

REQUIRED = ("image.onnx", "text.onnx", "tokenizer.json", "LICENSE", "CARD.md")
"""The files of every bundle."""

_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TEXT_SUFFIXES = (".json", ".jsonl", ".md", ".txt", "")
_MAX_PLAIN_TEXT_BYTES = 2**20
"""The largest file of plain text (LICENSE, *.md, *.txt)."""


def is_name(text: str) -> bool:
    """A text can name a model, a version or a file: it is one plain component of a path."""
    return _NAME_PATTERN.fullmatch(text) is not None


def verify(root: Path) -> tuple[Manifest, dict[str, FileStamp]]:
    """Checks a version directory. Returns its manifest, and the stamp of every file as verified.

    The cheapest checks come first: the manifest, then the names, kinds and sizes of all files, then
    every byte of them. Raises BundleError for the first mistake.
    """
    manifest = _read_manifest(root)
    for field, value in (("name", manifest.name), ("version", manifest.version)):
        if not is_name(value):
            raise BundleError(f"{MANIFEST}: {field}: not a plain name")
    for name in manifest.files:
        if name == MANIFEST or not all(map(is_name, name.split("/"))):
            raise BundleError(f"{_printable(name)}: not a plain path inside of the bundle")
    for name in required_files(manifest):
        if name not in manifest.files:
            raise BundleError(f"{name}: missing from the manifest")
    present = _scan(root) - {MANIFEST}
    for name in sorted(present - set(manifest.files)):
        raise BundleError(f"{_printable(name)}: not in the manifest")
    for name in sorted(set(manifest.files) - present):
        raise BundleError(f"{name}: missing")
    stamps = file_stamps(root, manifest.files)  # before the bytes are read
    for name, entry in manifest.files.items():
        if stamps[name].bytes != entry.bytes:
            raise BundleError(f"{name}: size differs from the manifest")
    for name, entry in manifest.files.items():
        if _digest(root / name) != entry.sha256:
            raise BundleError(f"{name}: sha256 differs from the manifest")
        check_content(root / name, name)
    return manifest, stamps


def required_files(manifest: Manifest) -> tuple[str, ...]:
    """The files without which a bundle is not complete."""
    architecture = manifest.architecture
    return (
        *REQUIRED,
        *(["concepts.jsonl"] if architecture.is_sparse else []),
        *(["patches.onnx"] if architecture.patch_grid else []),
        *(["weights.safetensors"] if architecture.config else []),
    )


def file_stamps(root: Path, names: Iterable[str]) -> dict[str, FileStamp]:
    """What the file system says of each file. Raises BundleError for one that is not there."""
    stamps = {}
    for name in names:
        try:
            status = (root / name).lstat()
        except OSError:
            raise BundleError(f"{_printable(name)}: missing") from None
        stamps[name] = FileStamp(
            device=status.st_dev,
            inode=status.st_ino,
            bytes=status.st_size,
            modified_ns=status.st_mtime_ns,
            changed_ns=status.st_ctime_ns,
        )
    return stamps


def describe_files(root: Path) -> dict[str, FileEntry]:
    """Size and digest of every file in and below a directory, for its manifest.

    Raises BundleError for a link, and for anything else that is neither file nor folder.
    """
    names = sorted(_scan(root) - {MANIFEST})
    return {
        name: FileEntry(bytes=(root / name).stat().st_size, sha256=_digest(root / name))
        for name in names
    }


def check_content(path: Path, name: str) -> None:
    """Checks that a file holds what its name promises, and no pickle in any form.

    Nothing is unpickled: `pickletools` only reads opcodes. Raises BundleError.
    """
    suffix = PurePosixPath(name).suffix if "." in name else ""
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" or zipfile.is_zipfile(path):
        raise BundleError(f"{name}: a pickle or an archive, which no bundle may hold")
    if suffix in _TEXT_SUFFIXES:
        if suffix not in (".json", ".jsonl"):
            if path.stat().st_size > _MAX_PLAIN_TEXT_BYTES:
                raise BundleError(f"{name}: over {_MAX_PLAIN_TEXT_BYTES} bytes")
            if _is_text_pickle(path.read_bytes()):
                raise BundleError(f"{name}: a pickle, which no bundle may hold")
        elif not head.startswith(b"{"):
            raise BundleError(f"{name}: not JSON")
    elif suffix == ".safetensors":
        length = struct.unpack("<Q", head[:8])[0] if len(head) >= 9 else 0
        if not 2 <= length <= path.stat().st_size - 8 or head[8:9] != b"{":
            raise BundleError(f"{name}: not a safetensors file")
    elif suffix == ".onnx":
        if head[:1] != b"\x08":  # the first field of a ModelProto is its ir_version
            raise BundleError(f"{name}: not an ONNX file")
        if _keeps_tensors_outside(path, name):
            raise BundleError(f"{name}: keeps tensors in another file")
    else:
        raise BundleError(f"{name}: a kind of file that no bundle holds")


def _keeps_tensors_outside(path: Path, name: str) -> bool:
    """Whether an ONNX file names other files. Raises BundleError for a file of another format."""
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return has_external_tensors(content)
    except OnnxFileError:
        raise BundleError(f"{name}: not an ONNX file") from None


def _read_manifest(root: Path) -> Manifest:
    path = root / MANIFEST
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{MANIFEST}: not a regular file")
        if status.st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{MANIFEST}: over {MAX_MANIFEST_BYTES} bytes")
        return Manifest.from_json(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        problem = f"{MANIFEST}: missing" if path.parent.is_dir() else "no such folder"
        raise BundleError(problem) from None
    except OSError:
        raise BundleError(f"{MANIFEST}: cannot be read") from None
    except UnicodeDecodeError:
        raise BundleError(f"{MANIFEST}: not JSON") from None
    except SchemaError as error:
        raise BundleError(f"{MANIFEST}: {error}") from None


def _scan(root: Path) -> set[str]:
    """Relative paths of all files. Raises BundleError for anything but files and folders."""
    paths = set()
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                if entry.is_symlink():
                    raise BundleError(f"{_printable(name)}: a symbolic link")
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{name}/", Path(entry.path)))
                elif entry.is_file(follow_symlinks=False):
                    paths.add(name)
                else:
                    raise BundleError(f"{_printable(name)}: not a regular file")
    return paths


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_text_pickle(data: bytes) -> bool:
    """The bytes begin with a pickle of protocol 0 or 1, which has no magic number."""
    try:
        return sum(1 for _ in pickletools.genops(data)) > 1
    except Exception:  # genops reads arbitrary bytes: any error means that they are no pickle
        return False


def _printable(name: str) -> str:
    """A name from outside, escaped and cut so that it is safe to print."""
    return ascii(name)[1:-1][:128]
