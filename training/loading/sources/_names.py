"""Endings of files, and the key of a pair: a file's name without its last ending."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable

from bundle.image_formats import IMAGE_SUFFIXES, UNSUPPORTED_IMAGE_SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
LIST_SUFFIXES = (".csv", ".tsv", ".jsonl")
CAPTION_SUFFIXES = (".txt", ".json")

IMAGE_ENDINGS = (*IMAGE_SUFFIXES, *UNSUPPORTED_IMAGE_SUFFIXES)
"""Those of images that are not decoded, too: their pairs are bad, and not left out without a word.
"""

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
"""Names of folders that are splits, when all folders of some data have such names."""

METADATA_NAMES = tuple(f"metadata{suffix}" for suffix in LIST_SUFFIXES)
"""Names of the lists that are looked for in and below a folder (the imagefolder convention)."""

SPLITS_FILE = "dataset_dict.json"
STATE_FILE = "state.json"
"""What Hugging Face's library saves in a folder of splits, and beside the files of one split."""


def endings(names: Iterable[str]) -> Counter[str]:
    """How many files have each ending, in lower case."""
    return Counter(posixpath.splitext(name)[1].lower() or "no ending" for name in names)


def split_name(name: str) -> tuple[str, str]:
    """The key and the ending, in lower case, of a file in a shard or a folder.

    Dots in names are common, so only the last ending counts, and only when it is that of an image
    or a caption. For any other file, and one that is hidden, the ending is empty.
    """
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, dot, ending = file.rpartition(".")
    suffix = dot + ending.lower()
    if not stem or file.startswith(".") or suffix not in (*IMAGE_ENDINGS, *CAPTION_SUFFIXES):
        return name, ""
    return folder + slash + stem, suffix


def is_image(name: str) -> bool:
    """Whether a file has the ending of an image."""
    return split_name(name)[1] in IMAGE_ENDINGS


def is_data(name: str) -> bool:
    """Whether a file holds pairs, or an image of one."""
    is_file = name.lower().endswith((*TAR_SUFFIXES, *TABLE_SUFFIXES))
    return is_file or is_metadata(name) or is_image(name)


def is_metadata(name: str) -> bool:
    """Whether a file is a list that belongs to its folder."""
    return name.rpartition("/")[2].lower() in METADATA_NAMES
