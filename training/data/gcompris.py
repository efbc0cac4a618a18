"""Titles, sentences and credits of the photographs in GCompris activities.

An activity is a Qt resource file. Its boards (QML) give each photograph a title and a text; a
README in every image folder gives author, address and licence file by file.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from training.data.data_recipe import DataError
from training.data.rcc import read_rcc

RESOURCES = "usr/share/gcompris-qt/rcc/"
"""The folder of the resource files in the Debian package."""

LICENCES = {
    "CC-BY-SA 4.0": "CC-BY-SA-4.0",
    "CC-BY 2.0": "CC-BY-2.0",
    "CC-BY 3.0": "CC-BY-3.0",
    "CC0-1.0": "CC0-1.0",
    "GPLv2+": "GPL-2.0-or-later",
    "GPLv3": "GPL-3.0-only",
    "Public Domain": "LicenseRef-Public-Domain",
}
"""Licence as a README spells it -> SPDX identifier."""


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Who made an image, and how it may be used."""

    licence: str
    author: str
    address: str
    """Where it was published; empty when the README does not say."""

    @property
    def line(self) -> str:
        """`AUTHOR, ADDRESS`."""
        return ", ".join(part for part in (self.author, self.address) if part)


@dataclass(frozen=True, kw_only=True)
class BoardPhoto:
    """A photograph on a board."""

    path: str
    title: str
    texts: tuple[str, ...]
    """Sentences of the board, without those that only repeat the title."""


def unpack(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of all resources; their paths lie in one tree, as they do for Qt."""
    return {
        path: content
        for name in sorted(files)
        for path, content in read_rcc(files[name], posixpath.basename(name)).items()
    }


def read_boards(files: Mapping[str, bytes]) -> Iterator[BoardPhoto]:
    """The photographs of all boards, in order of path.

    Raises DataError when a board names an image that is not there.
    """
    photos: dict[str, BoardPhoto] = {}
    for board in sorted(files):
        if not re.search(r"/resource/board/[^/]+\.qml$", board):
            continue
        for entry in re.findall(r"\{([^{}]*)\}", files[board].decode("utf-8")):
            fields = dict(re.findall(r'"(\w+)":\s*(?:qsTr\()?("(?:[^"\\]|\\.)*")', entry))
            if not {"title", "image2"} <= fields.keys():
                continue
            values = {key: _string(literal, board) for key, literal in fields.items()}
            path = values["image2"].removeprefix("qrc:/")
            if path not in files:
                raise DataError(f"{posixpath.basename(board)}: no image {path}")
            texts = (values.get("text", ""), values.get("text2", ""))
            photos[path] = BoardPhoto(
                path=path,
                title=values["title"],
                texts=tuple(text for text in texts if text and text not in values["title"]),
            )
    yield from (photos[path] for path in sorted(photos))


def _string(literal: str, board: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError as error:
        raise DataError(f"{posixpath.basename(board)}: not a plain string: {literal}") from error


def read_credits(files: Mapping[str, bytes]) -> dict[str, Credit]:
    """Path -> credit of every photograph that a README names.

    Raises DataError for a licence that is not in LICENCES.
    """
    credits: dict[str, Credit] = {}
    for readme in sorted(files):
        if posixpath.basename(readme) != "README":
            continue
        folder = posixpath.dirname(readme)
        for block in re.split(r"\n\s*\n", files[readme].decode("utf-8")):
            head, _, listed = block.partition("Files:")
            paths = [f"{folder}/{line.strip()}" for line in listed.splitlines() if line.strip()]
            paths = [path for path in paths if path.endswith(".webp")]
            if not paths:
                continue
            fields = dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", head, flags=re.MULTILINE))
            if fields.get("License") not in LICENCES:
                raise DataError(f"{readme}: unknown licence {fields.get('License')!r}")
            credit = Credit(
                licence=LICENCES[fields["License"]],
                author=fields.get("Copyright", ""),
                address=fields.get("Source", ""),
            )
            credits.update(dict.fromkeys(paths, credit))
    return credits
