"""Parquet is read without Arrow's threads: at exit one of them may free a buffer of Python's, which
aborts the process (seven of a hundred runs of `sparseclip export verify`)."""

from __future__ import annotations

import ast

from tests.support.paths import ROOT

READS = {"iter_batches", "read_row_group", "read_row_groups", "read_table"}


def threaded(source: str) -> list[int]:
    """Lines that read Parquet with threads."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in READS
        and "use_threads=False" not in [ast.unparse(keyword) for keyword in node.keywords]
    ]


def test_no_file_reads_with_threads() -> None:
    files = sorted((ROOT / "serving").rglob("*.py"))
    reads = [
        f"{path.relative_to(ROOT)}:{line}" for path in files for line in threaded(path.read_text())
    ]
    assert reads == []
    assert any("use_threads=False" in path.read_text() for path in files)


def test_a_read_with_threads_is_seen() -> None:
    assert threaded("file.read_row_group(3)\nfile.iter_batches(9, use_threads=False)") == [1]
