"""Bundles on disk: opened after every byte is verified, and written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bundle.atomic import staging_directory, sync, sync_tree
from bundle.captions import CAPTIONS_FILE, CaptionIndex
from bundle.concepts import ConceptVocabulary
from bundle.known_words import KnownWords
from bundle.manifest import Manifest
from bundle.onnx_graph import GRAPHS, GraphName
from bundle.open_tokenizer import open_tokenizer
from bundle.preprocessor import Preprocessor
from bundle.tokenizer import Tokenizer
from bundle.verify import (
    MANIFEST,
    BundleError,
    FileStamp,
    describe_files,
    file_stamps,
    is_name,
    verify,
)

__all__ = [
    "Bundle",
    "BundleError",
    "current_version",
    "default_bundle",
    "open_bundle",
    "vacant_version",
    "why_no_bundle",
    "write_bundle",
    "write_version",
]

CURRENT = "CURRENT"
"""The file of a model directory that names its current version, in one line."""

BUNDLE_VARIABLE = "SPARSECLIP_BUNDLE"
"""The environment variable with the directory of the default bundle."""

DEMO_PACKAGE = "sparseclip_demo"
"""The package of the distribution sparseclip-demo, which is data only; see packages/demo."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A version of a model, verified."""

    root: Path
    """The directory of the version."""
    manifest: Manifest
    stamps: dict[str, FileStamp]
    """The stamp of each file just before it was verified."""

    def check_unchanged(self) -> None:
        """Checks that what was read since the bundle was opened is what was verified.

        Call it when all files have been read. Raises BundleError naming a file that was replaced or
        written to in the meantime.
        """
        for name, stamp in file_stamps(self.root, self.stamps).items():
            if stamp != self.stamps[name]:
                raise BundleError(f"{name}: changed while it was read")

    def file(self, name: str) -> Path:
        """The path of a file. Raises BundleError when the manifest does not list it."""
        if name not in self.manifest.files:
            raise BundleError(f"{name}: not in the bundle")
        return self.root / name

    @property
    def is_sparse(self) -> bool:
        """Whether the model has codes of concepts."""
        return self.manifest.architecture.is_sparse

    @property
    def graphs(self) -> tuple[GraphName, ...]:
        """The graphs by which the model is served. Nobody asks a dense model for its patches."""
        has_patches = self.is_sparse and self.manifest.architecture.patch_grid is not None
        return GRAPHS if has_patches else ("image", "text")

    @cached_property
    def concepts(self) -> ConceptVocabulary:
        """The concepts; none of a dense model. Raises BundleError when there are more or fewer than
        the model has."""
        if not self.is_sparse:
            return ConceptVocabulary(())
        try:
            vocabulary = ConceptVocabulary.open(self.file("concepts.jsonl"))
        except ValueError as error:
            raise BundleError(str(error)) from None
        if len(vocabulary) != self.manifest.architecture.concepts:
            raise BundleError("concepts.jsonl: must have one line for each concept")
        return vocabulary

    @cached_property
    def known_words(self) -> KnownWords:
        """The words that the text tower knows. Raises BundleError as `concepts` does."""
        return KnownWords.of(self.concepts.concepts)

    @cached_property
    def captions(self) -> CaptionIndex | None:
        """The training captions by which images are named; None when the bundle has none. Raises
        BundleError."""
        if CAPTIONS_FILE not in self.manifest.files:
            return None
        try:
            return CaptionIndex.open(self.file(CAPTIONS_FILE), self.manifest.architecture.concepts)
        except ValueError as error:
            raise BundleError(f"{CAPTIONS_FILE}: {error}") from None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises BundleError when it has ids that the text tower does not."""
        architecture, tokenization = self.manifest.architecture, self.manifest.tokenization
        try:
            path = self.file("tokenizer.json")
            tokenizer = open_tokenizer(path, architecture.context_length, tokenization)
        except ValueError as error:
            raise BundleError(str(error)) from None
        # The table of another library's tower may be rounded up.
        too_few = tokenization.kind == "clip_bpe" and tokenizer.vocabulary < architecture.vocabulary
        if too_few or tokenizer.vocabulary > architecture.vocabulary:
            raise BundleError("tokenizer.json: must have the vocabulary that the manifest says")
        return tokenizer

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Turns images into the pixels of the image tower."""
        return Preprocessor(self.manifest.preprocessing)


def open_bundle(path: Path) -> Bundle:
    """Opens a version directory, or the current version of a model directory.

    Every file is compared with the manifest before any of them is parsed. Raises BundleError,
    naming the first file that is not as the manifest says.
    """
    version = None
    if problem := why_no_bundle(path):
        raise BundleError(f"the folder {problem}")
    if not os.path.lexists(path / MANIFEST) and os.path.lexists(path / CURRENT):
        version = current_version(path)
        path = path / version
    manifest, stamps = verify(path)
    if version is not None and manifest.version != version:
        raise BundleError(f"{CURRENT}: names another version than the manifest does")
    return Bundle(root=path, manifest=manifest, stamps=stamps)


def why_no_bundle(path: Path) -> str | None:
    """What a folder that cannot be a bundle is, by the names in it, and what to do; None for one
    that may be a bundle, or is not there."""
    if not path.is_dir() or any(os.path.lexists(path / name) for name in (MANIFEST, CURRENT)):
        return None
    models = sorted(file.parent.name for file in path.glob(f"*/{CURRENT}"))
    if models and is_name(models[0]):
        return f"holds models; name one of them, such as {models[0]}"
    return (
        f"is no bundle: it has neither {MANIFEST} nor {CURRENT}. `sparseclip import` makes a bundle"
        " of a CLIP, and `sparseclip bundle export` one of a run"
    )


def current_version(model_dir: Path) -> str:
    """The version that CURRENT names. Raises BundleError unless it is a directory beside it."""
    path = model_dir / CURRENT
    try:
        if path.is_symlink() or path.stat().st_size > 256:
            raise BundleError(f"{CURRENT}: must be a file of one short line")
        version = path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{CURRENT}: cannot be read") from None
    if not is_name(version):
        raise BundleError(f"{CURRENT}: must name one version")
    target = model_dir / version
    if target.is_symlink() or not target.is_dir():
        raise BundleError(f"{CURRENT}: there is no such version")
    return version


def write_bundle(models_dir: Path, manifest: Manifest, fill: Callable[[Path], None]) -> Path:
    """Writes a version whose manifest is known before its files are; see `write_version`."""

    def write(folder: Path) -> Manifest:
        fill(folder)
        return manifest

    return write_version(models_dir, manifest.name, manifest.version, write)


def write_version(
    models_dir: Path, name: str, version: str, write: Callable[[Path], Manifest]
) -> Path:
    """Writes a version, makes it the current one, and returns its directory.

    `write` puts the files into an empty directory on the disk of `models_dir`, and returns the
    manifest, whose `files` then describe what is there. Only when all of it is verified and on the
    disk does the directory get its name, and CURRENT its line. If anything fails, nothing is left;
    what a killed process leaves is removed by the next one that writes a version of the model.
    Versions never change: raises BundleError when this one exists, and when the disk does not take
    it.
    """
    target = vacant_version(models_dir, name, version)
    model_dir = target.parent
    missing = [path for path in (model_dir, *model_dir.parents) if not path.exists()]
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        with staging_directory(model_dir) as staging:
            draft = staging / version
            draft.mkdir()
            mode = draft.stat().st_mode
            manifest = write(draft)
            draft.chmod(mode)  # copying a private folder into it makes it as private
            complete = dataclasses.replace(manifest, files=describe_files(draft))
            (draft / MANIFEST).write_text(complete.to_json(), encoding="utf-8")
            verify(draft)
            (staging / CURRENT).write_text(version + "\n", encoding="utf-8")
            sync_tree(staging)
            draft.rename(target)
            sync(model_dir)
            (staging / CURRENT).replace(model_dir / CURRENT)
            sync(model_dir)
    except BaseException as error:
        for path in missing:
            with contextlib.suppress(OSError):  # somebody else uses it
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        vacant_version(models_dir, name, version)  # another writer was quicker
        reason = error.strerror or "the disk does not take it"
        raise BundleError(f"{name}/{version}: cannot be written: {reason}") from error
    return target


def vacant_version(models_dir: Path, name: str, version: str) -> Path:
    """The directory for a new version. Raises BundleError for a bad name, if it exists, or where
    nothing can be written."""
    for field, value in (("name", name), ("version", version)):
        if not is_name(value):
            raise BundleError(f"{field}: letters, digits, dots, dashes and underscores only")
    target = models_dir / name / version
    if os.path.lexists(target):
        raise BundleError(f"{name}/{version}: exists, and versions never change")
    folder = target.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise BundleError(f"{name}/{version}: its folder cannot be written to")
    return target


def default_bundle() -> Path:
    """The bundle for a command that names none.

    It is the first of these that exists: the directory in the environment variable
    SPARSECLIP_BUNDLE, models/demo of the clone that holds this file, or the installed distribution
    sparseclip-demo. Raises BundleError when there is none, or the variable names no bundle.
    """
    if named := os.environ.get(BUNDLE_VARIABLE):
        if not Path(named).is_dir():
            raise BundleError(f"no bundle: {BUNDLE_VARIABLE} is no directory")
        if problem := why_no_bundle(Path(named)):
            raise BundleError(f"{BUNDLE_VARIABLE}: the folder {problem}")
        return Path(named)
    clone = Path(__file__).resolve().parents[1] / "models" / "demo"
    if (clone / CURRENT).is_file():
        return clone
    try:
        installed = importlib.resources.files(DEMO_PACKAGE) / "demo"
    except ModuleNotFoundError:
        raise BundleError(
            f"no bundle: name one, set {BUNDLE_VARIABLE}, or pip install 'sparseclip[demo]'"
        ) from None
    return Path(str(installed))
