"""The evaluation from end to end, on a tiny adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle.store import open_bundle
from mllm_adapter.cli.evaluate import draw, steering
from mllm_adapter.evaluation.evaluate import Evaluation, Sweep
from mllm_adapter.trainer.loop import train
from tests.mllm_adapter.runs import recipe, stage


@pytest.fixture(scope="module")
def adapter(tiny_bundle: Path, icons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    return train(recipe(tiny_bundle, icons, stage("full", 30, lr=5e-3)), run)


def test_every_condition_is_asked(
    adapter: Path,
    tiny_bundle: Path,
    icons: Path,
    tmp_path: Path,
) -> None:
    evaluation = Evaluation(adapter, open_bundle(tiny_bundle), icons, "test_style", None)
    figures, answers = evaluation.unsteered()
    assert figures["unsteered"]["images"] == len(answers) == len(evaluation.meta)
    sweep = Sweep(tops=(4, 2), strengths=(2.0, 1.0), images=6)
    rows = list(evaluation.steering(range(6), sweep))
    conditions = [row["condition"] for row in rows]
    assert conditions.count("steered") == 4
    assert {"random concepts", "told", "difference of means", "difference of hidden states"} <= set(
        conditions
    )
    assert all(row["images"] <= 6 for row in rows)
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_command(adapter: Path, tiny_bundle: Path, icons: Path) -> None:
    arguments = [str(adapter), "--bundle", str(tiny_bundle), "--data", str(icons), "--no-shapes"]
    done = CliRunner().invoke(steering, [*arguments, "--json", "--images", "4"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {"unsteered", "no_image"} <= {row["condition"] for row in rows}
    done = CliRunner().invoke(steering, [*arguments, "--split", "nowhere"])
    assert done.exit_code == 1
    assert "has no split 'nowhere'" in done.output
