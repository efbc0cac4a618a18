"""Files that hold many entries each: those of a folder, or one alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from serving.export.inputs.base import CHANGED, EMPTY_FILE, InputEntry, LeftOut, is_named
from serving.storage.file_names import spell, unspell
from serving.storage.file_tree import StoredFile, look_up, walk_files
from serving.storage.location import Location


class ContainerFiles(NamedTuple):
    """The files of an input, sorted by path, and what else was found beside them."""

    folder: Location
    files: list[StoredFile]
    """Their paths are relative to the folder, and spelled as `file_names.spell` does it."""
    left_out: LeftOut

    @classmethod
    def find(cls, location: Location, endings: tuple[str, ...]) -> ContainerFiles:
        """A file, or those in and below a folder whose names have one of the endings."""
        left_out = LeftOut()
        if not location.is_folder():
            files = [look_up(location)]
            folder = location.parent
        else:
            files, folder = [], location
            for file in walk_files(location, left_out.add):
                if is_named(file.path, endings) or file.path.endswith("/"):
                    files.append(file)
                else:
                    left_out.add_name(file.path)
        spelled = [file._replace(path=spell(file.path)) for file in files]
        return cls(folder, spelled, left_out)

    @property
    def fingerprints(self) -> dict[str, str]:
        """By path."""
        return {file.path: file.fingerprint for file in self.files}

    def at(self, path: str) -> Location:
        """The file of a path."""
        return self.folder.at(unspell(path))

    def problems_now(self, files: Iterable[tuple[str, str]]) -> dict[str, str]:
        """What is wrong by now with files of these paths and fingerprints, by path: they are gone,
        or have changed since they were listed."""
        problems = {}
        for path, fingerprint in set(files):
            now = look_up(self.at(path))
            if now.problem or fingerprint not in ("", now.fingerprint):
                problems[path] = now.problem or CHANGED
        return problems


def file_entry(file: StoredFile, problem: str = "") -> InputEntry:
    """The entry that stands for all that a file would have held."""
    reason = file.problem or ("" if file.size else EMPTY_FILE) or problem
    return InputEntry(file.path, file.path, file.fingerprint, reason)
