"""`sparseclip export` as the tests call it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from serving.cli.main import main

COUNT = 40
BROKEN = (3, 17)


def run(*arguments: object, code: int = 0) -> str:
    """What an export prints; its exit code must be `code`."""
    done = CliRunner().invoke(main, ["export", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def options(bundle: Path, rows: int = 8) -> list[object]:
    """Several shards, several batches of a shard."""
    return ["--bundle", bundle, "--rows", rows, "--batch", 4, "--decoders", 1]


def files(output: Path) -> dict[str, bytes]:
    """Everything that must not depend on how the export went."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "DONE.json" and ".locks" not in path.parts
    }
