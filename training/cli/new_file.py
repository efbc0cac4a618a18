"""A file that a command writes, and that is nobody else's."""

from __future__ import annotations

from pathlib import Path

import click


def refuse_existing(option: str, path: Path | None) -> None:
    """Ends the command, before its work, when the file of an option is there."""
    if path is not None and (path.exists() or path.is_symlink()):
        raise click.ClickException(f"{option}: {path.name} exists, and is not replaced")


def write_new(option: str, path: Path, text: str) -> None:
    """Writes the file, whole or not at all, and ends the command where it cannot be written."""
    from bundle.atomic import draft_of

    try:
        with draft_of(path, replace=False) as draft:
            draft.write(text.encode(errors="replace"))
    except FileExistsError:
        refuse_existing(option, path)
        raise
    except OSError:
        raise click.ClickException(f"{option}: {path.name} cannot be written") from None
