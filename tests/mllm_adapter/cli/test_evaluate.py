"""`sparseclip evaluate steering`: where its plot is drawn."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mllm_adapter.cli.evaluate import draw, steering

ROWS = [
    {"condition": "steered", "strength": 1.0, "top": top, "exact": 50.0 + top} for top in (4, 8)
]


@pytest.mark.parametrize(
    ("name", "problem"), [("own.png", "is there"), ("new.xyz", "ends in none of ")]
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(
    name: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "own.png").write_text("mine")
    refused = CliRunner().invoke(steering, ["--plot", str(tmp_path / name)])
    assert refused.exit_code == 2
    assert f"Invalid value for '--plot': {name}: {problem}" in refused.output


@pytest.mark.parametrize(("name", "start"), [("new.png", b"\x89PNG"), ("folder/new.PDF", b"%PDF")])
def test_a_plot_is_a_new_file(name: str, start: bytes, tmp_path: Path) -> None:
    draw(ROWS, tmp_path / name)
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(start)
    with pytest.raises(click.ClickException, match=r"^--plot: new\.\w+: is there$"):
        draw(ROWS, tmp_path / name)
    assert (tmp_path / name).read_bytes() == drawn
