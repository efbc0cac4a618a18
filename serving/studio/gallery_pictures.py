"""The pictures of the studio's gallery: a folder of files, known by their names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from serving.core.errors import StartupError

log = logging.getLogger(__name__)

OWN_GALLERY = Path(__file__).parent / "gallery"
MAX_PICTURES = 2000
"""The most pictures of a gallery: a visitor's browser lists them all."""

_MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


@dataclass(frozen=True, kw_only=True)
class GalleryPicture:
    """One file of the folder."""

    name: str
    """The file's name, or its path in an exported folder, by which it is asked for."""
    path: Path
    media_type: str

    def read(self, most_bytes: int) -> bytes:
        """The file's bytes. Raises OSError, also for a file of more than `most_bytes`."""
        with self.path.open("rb") as stream:
            data = stream.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise OSError(f"{self.name}: too large")
        return data


@dataclass(frozen=True, kw_only=True)
class PictureFolder:
    """The pictures of one folder."""

    title: str
    """What the page calls the collection."""
    pictures: tuple[GalleryPicture, ...]
    """In the order of their names, or of the export that they are taken from."""


def media_type(name: str) -> str | None:
    """What a browser is told of a picture of this name; None if the gallery does not take it."""
    return _MEDIA_TYPES.get(Path(name).suffix.lower())


def read_folder(folder: str | None) -> PictureFolder:
    """The pictures of a folder; None is the one that comes with Sparseclip.

    Files of other kinds are passed over, as is what lies in folders below. Files whose names no
    page can hold are left out, and the log says how many. Raises StartupError.
    """
    path = Path(folder) if folder is not None else OWN_GALLERY
    try:
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
    except OSError:
        raise StartupError("gallery: the folder cannot be read") from None
    found = tuple(
        GalleryPicture(name=file.name, path=file, media_type=kind)
        for file in files
        if (kind := media_type(file.name))
    )
    pictures = tuple(picture for picture in found if _told(picture.name) == picture.name)
    if len(pictures) < len(found):
        log.warning("gallery: %d names are not UTF-8", len(found) - len(pictures))
    if len(pictures) > MAX_PICTURES:
        raise StartupError(f"gallery: more than {MAX_PICTURES:,} pictures")
    if not pictures:
        raise StartupError("gallery: the folder has no pictures")
    title = "the shipped gallery" if folder is None else _told(path.resolve().name)
    return PictureFolder(title=title, pictures=pictures)


def _told(name: str) -> str:
    """A file's name as a page can hold it."""
    return name.encode("utf-8", "replace").decode()
