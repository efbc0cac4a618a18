"""The table of limits in docs/serving.md, made from the dataclass. Run it to write the table."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from serving.core.config import documentation
from serving.core.limits import LimitsConfig

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
_PLACE = re.compile(r"(<!-- limits: [^\n]*-->\n)(.*?)(<!-- /limits -->)", re.DOTALL)


def table() -> str:
    """A Markdown table: name, default and meaning of every limit."""
    sentences = documentation(LimitsConfig)
    rows = [
        f"| `{field.name}` | {_shown(field.name, field.default)} | {sentences[field.name]} |"
        for field in dataclasses.fields(LimitsConfig)
    ]
    return "\n".join(["| limit | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _shown(name: str, value: object) -> str:
    assert isinstance(value, int | float)
    if name.endswith("_bytes") or name.startswith("bytes_"):
        for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
            if value % size == 0:
                return f"{value // size} {unit}"
        return f"{value} B"
    if name.endswith("_s"):
        return f"{value:g} s"
    return f"{value:,}"


def current() -> str:
    """The table that the page holds now."""
    found = _PLACE.search(PAGE.read_text())
    assert found is not None, "docs/serving.md: the marks of the limits are gone"
    return found[2]


if __name__ == "__main__":
    PAGE.write_text(_PLACE.sub(lambda m: m[1] + table() + m[3], PAGE.read_text()))
