"""Runs a command line in a process that has only the base install: `python base_install.py ARGS`.

Every other third-party module is hidden, as if it were not installed. Prints what the console
command prints, and ends with its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

BASE = {"click", "google", "grpc", "numpy", "rich", "scipy"}
NEEDED_BY_BASE = {"markdown_it", "mdurl", "pygments", "typing_extensions"}
OURS = {"bundle", "mllm_adapter", "serving", "sparseclip", "training"}


class OnlyBase(MetaPathFinder):
    """Hides every top-level module outside of the base install and the standard library."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.split(".")[0]
        known = BASE | NEEDED_BY_BASE | OURS | sys.stdlib_module_names
        if top not in known and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def main() -> None:
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root), str(root / "protos")]
    sys.meta_path.insert(0, OnlyBase())
    from serving.cli.main import main as command

    command(prog_name="sparseclip")


if __name__ == "__main__":
    main()
