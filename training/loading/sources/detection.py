"""Which kind of source some data are, by the names of their files."""

from __future__ import annotations

from pathlib import Path

from training.data.data_recipe import DataError
from training.loading.sources import AUTO, PAIR_SOURCES
from training.loading.sources._files import read_json, walk
from training.loading.sources._names import (
    CAPTION_SUFFIXES,
    LIST_SUFFIXES,
    SPLIT_FOLDERS,
    SPLITS_FILE,
    STATE_FILE,
    TABLE_SUFFIXES,
    TAR_SUFFIXES,
    is_data,
    is_image,
    is_metadata,
    split_name,
)
from training.loading.sources.base import Columns, PairSource, printable

FILES = {"webdataset": TAR_SUFFIXES, "table": TABLE_SUFFIXES, "list": LIST_SUFFIXES}
"""Kinds that a single file may have, by its ending."""


def open_source(path: Path, columns: Columns, kind: str = AUTO) -> PairSource:
    """Opens data by a kind that PAIR_SOURCES names; AUTO stands for what `detect_kind` finds.

    Raises DataError for data that are not of the kind, or PluginError.
    """
    if not path.exists():
        raise DataError(f"data.path: {path} is not there")
    return PAIR_SOURCES.load(detect_kind(path) if kind == AUTO else kind).open(path, columns)


def detect_kind(path: Path) -> str:
    """The kind of some data. Raises DataError when the files are of several kinds, or of none."""
    if not path.is_dir():
        name = path.name.lower()
        kind = next((k for k, known in FILES.items() if name.endswith(known)), None)
        if kind is None:
            listed = ", ".join(ending for known in FILES.values() for ending in known)
            raise DataError(f"data.path: {path.name} ends in none of {listed}")
        return kind
    names = list(walk(path))
    images = [name for name in names if is_image(name)]
    found = {
        "webdataset": any(name.lower().endswith(TAR_SUFFIXES) for name in names),
        "table": any(name.lower().endswith(TABLE_SUFFIXES) for name in names),
        "list": any(is_metadata(name) for name in names),
    }
    kinds = [kind for kind, is_there in found.items() if is_there]
    if len(kinds) > 1 or (kinds == ["webdataset"] and images):
        several = ", ".join([*kinds, *(["images"] if images else [])])
        raise DataError(
            f"data.path: {path.name} holds files of several kinds ({several}); set data.kind to one"
            f" of {', '.join(PAIR_SOURCES.names)}"
        )
    if kinds == ["table"] and (path / STATE_FILE).is_file():
        return "huggingface"
    if kinds:
        return kinds[0]
    if not images:
        raise DataError(f"data.path: {path.name} holds no shards, tables, lists or images")
    captions = {key for key, suffix in map(split_name, names) if suffix in CAPTION_SUFFIXES}
    if not captions.isdisjoint(split_name(name)[0] for name in images):
        return "files"
    if lists := [name for name in names if name.lower().endswith(LIST_SUFFIXES)]:
        # The captions are rather in the list than in the names of folders.
        raise DataError(
            f"data.path: {path.name} holds images and {printable(lists[0])}; name that file as the"
            " data, or set data.kind to classes, whose captions are the names of folders"
        )
    return "classes"


def split_folders(path: Path) -> list[str]:
    """The folders of some data that are splits, the one of training first; none for data that have
    no splits. Raises DataError."""
    if not path.is_dir():
        return []
    if (path / SPLITS_FILE).is_file():
        saved = read_json(path / SPLITS_FILE).get("splits")
        if not isinstance(saved, list) or not all(map(_is_name, saved)):
            raise DataError(f"data.path: {path.name}/{SPLITS_FILE} names no splits")
        return saved
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    folders = {entry.name for entry in entries if entry.is_dir()}
    has_others = any(is_data(entry.name) for entry in entries) or not folders <= set(SPLIT_FOLDERS)
    return (
        [name for name in SPLIT_FOLDERS if name in folders]
        if len(folders) > 1 and not has_others
        else []
    )


def _is_name(split: object) -> bool:
    return isinstance(split, str) and split not in ("", ".", "..") and "/" not in split
