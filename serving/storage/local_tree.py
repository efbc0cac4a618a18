"""The names of all files in and below a folder of this machine."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator

NOT_FOUND = "not found"
NOT_A_FILE = "not a file"
PERMISSION_DENIED = "permission denied"
UNREADABLE = "cannot be read"

SEEN_FOLDER = "links to folders that are read already"


def walk_local(
    root: str, skip: Callable[[str], None], see_link: Callable[[str], None] | None = None
) -> Iterator[tuple[str, str]]:
    """The paths of all that is no folder, relative to `root` and sorted, each with "". The path of
    a folder whose names cannot be listed ends in a slash, and has the reason with it.

    A link to a folder outside of `root` is followed once. A link to a folder that is read already,
    or will be, is passed to `skip` as a reason: so loops end. `see_link` is called with the path of
    each link to a folder, and of each that leads to nothing.
    """
    real_root = os.path.realpath(root)
    entered = set[str]()  # real paths of the folders outside of the root
    waiting: list[Iterator[tuple[str, bool]]] = [iter([("", False)])]
    while waiting:
        path, is_outside = next(waiting[-1], (None, False))
        if path is None:
            waiting.pop()
        elif path and not path.endswith("/"):
            yield path, ""
        else:
            where = posixpath.join(root, path)
            if is_outside or (path and os.path.islink(where.rstrip("/"))):
                real = os.path.realpath(where)
                is_outside = not f"{real}/".startswith(f"{real_root.rstrip('/')}/")
                if not is_outside or real in entered:
                    skip(SEEN_FOLDER)
                    continue
                entered.add(real)
            names: list[str] = []
            try:
                for entry in os.scandir(where):
                    names.append(_name(entry))
                    if see_link and entry.is_symlink() and not _is_file(entry):
                        see_link(path + entry.name)
            except OSError as error:
                yield path, problem_of(error)
                continue
            waiting.append(iter([(path + name, is_outside) for name in sorted(names)]))


def link_to(root: str, target: str) -> str | None:
    """A link below `root` by which `walk_local` reads `target`, or would if `target` were there;
    None when there is none."""
    real_target, found = os.path.realpath(target), list[str]()

    def compare(link: str) -> None:
        real = os.path.realpath(posixpath.join(root, link))
        if f"{real_target}/".startswith(f"{real.rstrip('/')}/"):
            found.append(link)

    for _ in walk_local(root, lambda reason: None, compare):
        if found:
            break
    return found[0] if found else None


def problem_of(error: OSError) -> str:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NOT_FOUND
    if isinstance(error, IsADirectoryError):
        return NOT_A_FILE
    return PERMISSION_DENIED if isinstance(error, PermissionError) else UNREADABLE


def _name(entry: os.DirEntry[str]) -> str:
    """The name of an entry; a folder's ends in a slash, so that names sort as paths do."""
    try:
        return f"{entry.name}/" if entry.is_dir() else entry.name
    except OSError:  # a link to itself
        return entry.name


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False
