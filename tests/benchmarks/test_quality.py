"""Which values arms change, what follows from which results, and what the table shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.quality.arms import (
    ARMS,
    EQUAL_COMPUTE,
    RELU_OFF,
    Results,
    changes_of,
    needed,
    with_equal_compute,
)
from benchmarks.quality.sweep import Sweep, sweep
from benchmarks.quality.table import SPLITS, table
from tests.training.conftest import tiny_recipe
from training.trainer.training_recipe import TrainingRecipe

HARD = [
    "model.logit_scale_init=12.0",
    "model.bias=-0.6",
    "model.rep_relu=true",
    "model.top_k=64",
    "loop.l1=0.1",
]
"""Values that a recipe may have, and that arms must not stumble over."""


def run(steps: int = 100, seconds: float = 100.0, **values: Any) -> dict[str, Any]:
    figures = {
        f"{split}.{name}": value
        for split in SPLITS
        for name, value in (("top1", 50.0), ("l0_image", 120.6), ("active", 90.0))
    }
    return {
        "changes": [],
        "figures": figures,
        "steps": steps,
        "seconds": seconds,
        "logit_scale": 12.0,
        "logit_scale_cap": 12.0,
        **values,
    }


@pytest.mark.parametrize("name", ["demo", "paper_small"])
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_recipe(name: str, arm: str) -> None:
    values = HARD if name == "demo" else []
    changes = changes_of(arm, 0, {"sparse/0": run()}, 4.0, None)
    changed = TrainingRecipe.load(name, [*values, *changes])
    if name == "demo":  # another recipe may have what an arm changes
        assert (changed != TrainingRecipe.load(name, values)) == (arm != "sparse")
    if "dense" in arm:
        model = changed.model
        assert (model.relu, model.bias, model.top_k, changed.loop.l1) == (False, None, None, 0.0)
        assert model.concepts == model.embed_dim
    if arm in ("cap_100", "top_k", "l1_0.1"):
        assert (changed.model.logit_scale_cap, changed.model.logit_scale_init) == (100.0, None)


def test_the_paper_s_two_by_two_differs_in_relu_and_width_alone() -> None:
    arms = ("cap_100", "wide_without_relu", "relu_without_width", "dense")
    models = [TrainingRecipe.load("demo", ARMS[arm]).model for arm in arms]
    assert [m.relu for m in models] == [True, False, True, False]
    assert [m.width_factor for m in models] == [32, 32, 1, 1]
    assert [m.initial_scale for m in models] == pytest.approx([1 / 0.07] * 4)
    assert {m.logit_scale_cap for m in models} == {100.0}


def test_top_k_takes_the_density_of_the_sparse_run_of_its_seed() -> None:
    results: Results = {"sparse/0": run(), "sparse/1": run(figures={"val_style.l0_image": 7.2})}
    ks = [changes_of("top_k", seed, results, 4.0, None)[-1] for seed in (0, 1)]
    assert ks == ["model.top_k=121", "model.top_k=7"]
    assert changes_of("top_k", 2, results, 4.0, 33)[-1] == "model.top_k=33"
    assert (needed("top_k", None), needed("top_k", 33)) == (["sparse"], [])


def test_equal_compute_takes_the_epochs_that_fit_into_the_sparse_run() -> None:
    arms = with_equal_compute(["sparse", "dense", "cls"])
    assert arms == ["sparse", "dense", "dense" + EQUAL_COMPUTE, "cls"]
    assert needed(arms[2], None) == ["sparse", "dense"]
    # A step of the sparse run takes 2 s, one of the dense run 0.5 s, which had fewer of them.
    results = {
        "sparse/0": run(steps=100, seconds=200.0),
        "dense/0": run(steps=50, seconds=25.0),
        "sparse/1": run(seconds=1.0),
    }
    assert changes_of(arms[2], 0, results, 64.0, None) == [*ARMS["dense"], "loop.epochs=256.000"]


def test_the_table_shows_every_held_out_split() -> None:
    results = {
        "sparse/0": run(),
        "sparse/1": run(logit_scale=11.0),
        "cls/0": run(),
        "dense/0": run(changes=[RELU_OFF], seconds=1234.0, logit_scale=34.3, logit_scale_cap=100.0),
    }
    head, _, *rows = table(results, ["sparse", "dense", "cls", "cap_8"]).splitlines()
    assert [split for split in SPLITS if f"{split}: top-1" in head] == list(SPLITS)
    assert [row.split(" | ")[0] for row in rows] == ["| sparse", "| dense", "| cls"]
    sparse, dense, cls = ([cell.strip() for cell in row.split("|")] for row in rows)
    assert sparse[2:5] == ["2", "100", "100"]
    assert (sparse[5], dense[5], cls[5]) == ("11.5", "34.3", "12.0, its cap")
    assert sparse[6] == "50.0 ± 0.0% / 120.6 ± 0.0 / 90.0 ± 0.0%"
    assert dense[4] == "1,234"
    assert dense[6:11] == ["50.0% / – / –"] * 5


def test_a_split_that_is_not_usual_is_shown_too() -> None:
    figures = {f"mine.{name}": 1.0 for name in ("top1", "l0_image", "active")}
    assert "mine: top-1" in table({"sparse/0": run(figures=figures)}, ["sparse"])


def test_a_sweep_measures_what_follows_after_what_it_follows_from(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.yaml"
    values = tiny_recipe(loop={"epochs": 1}).to_dict()
    recipe.write_text(yaml.safe_dump(json.loads(json.dumps(values))))
    settings = Sweep(
        recipe=str(recipe),
        changes=["loop.epochs=2"],
        top_k=None,
        runs=tmp_path / "runs",
        results=tmp_path / "results.json",
        jobs=1,
    )
    arms = ["top_k", "dense" + EQUAL_COMPUTE, "dense", "sparse"]
    results: Results = {}
    sweep(settings, [(arm, 3) for arm in arms], results)
    assert json.loads(settings.results.read_text()) == results
    assert set(results) == {f"{arm}/3" for arm in arms}
    sparse, dense, longer, top_k = (
        results[f"{a}/3"] for a in ("sparse", "dense", arms[1], arms[0])
    )
    assert sparse["steps"] == dense["steps"] == top_k["steps"]
    speeds = sparse["seconds"] / sparse["steps"], dense["seconds"] / dense["steps"]
    assert f"loop.epochs={2 * speeds[0] / speeds[1]:.3f}" in longer["changes"]
    k = round(sparse["figures"]["val_style.l0_image"])
    assert f"model.top_k={k}" in top_k["changes"]
    assert top_k["figures"]["val_style.l0_image"] <= k
    assert [run["logit_scale_cap"] for run in (sparse, dense)] == [100.0, 100.0]
    assert len(table(results, arms).splitlines()) == 2 + len(arms)
