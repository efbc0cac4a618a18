"""The figures of the research model in the card of a bundle, told apart from its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.store import open_bundle
from tests.training.cli.test_bundle_export import export
from tests.training.conftest import tiny_recipe
from training.trainer.loop import train


def test_they_stand_under_a_heading_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path / "empty"))
    train(tiny_recipe(), tmp_path / "run", stop_after=2)
    train(tiny_recipe(loop={"seed": 5}), tmp_path / "research", stop_after=2)
    done = export(tmp_path / "run", tmp_path, "--research-run", str(tmp_path / "research"))
    assert done.exit_code == 0, done.output
    card = open_bundle(tmp_path / "icons").file("CARD.md").read_text()
    own, research = card.split("### Figures of another model", 1)
    assert own.count("| split | images |") == 1
    assert research.count("| split | images |") == 1
    assert "seed 5, and not of this bundle" in research
    train(tiny_recipe(augment={"rotate": 1.0}), tmp_path / "other", stop_after=1)
    refused = export(tmp_path / "run", tmp_path / "none", "--research-run", str(tmp_path / "other"))
    assert refused.exit_code == 1
    assert "research run: its section `augment` is not that of the run to export" in refused.output


def test_runs_may_go_on_from_different_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path / "empty"))
    for name, seed in (("first", 0), ("second", 5)):
        train(tiny_recipe(loop={"seed": seed}), tmp_path / name, stop_after=1)
        after = tiny_recipe(loop={"seed": seed}, start={"checkpoint": str(tmp_path / name)})
        train(after, tmp_path / f"{name}-fine", stop_after=1)
    research = ("--research-run", str(tmp_path / "second-fine"))
    done = export(tmp_path / "first-fine", tmp_path, *research)
    assert done.exit_code == 0, done.output
    refused = export(tmp_path / "first", tmp_path / "none", *research)
    assert "research run: its section `start` is not that of the run to export" in refused.output
