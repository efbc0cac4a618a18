"""The evaluation from end to end, on a tiny adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from bundle.store import default_bundle, open_bundle
from mllm_adapter.cli.evaluate import draw, steering
from mllm_adapter.evaluation.evaluate import Evaluation, Sweep
from mllm_adapter.evaluation.steering_protocol import whole_label_trials
from mllm_adapter.trainer.loop import train
from tests.mllm_adapter.runs import recipe, stage
from training.loading.pair_data import PairData


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
    evaluation = Evaluation(adapter, open_bundle(tiny_bundle), PairData(icons), "test_style", None)
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


def test_own_pairs_are_steered_to_the_captions_that_were_trained_on(
    adapter: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_CACHE", str(tmp_path / "cache"))
    rows = ["path,caption"]
    for number, colour in enumerate(["red", "blue"] * 30):
        Image.new("RGB", (48, 40 + number), colour).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,a {colour} square {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    before = sorted(path for path in tmp_path.iterdir() if path.name != "cache")
    arguments = [str(adapter), "--bundle", str(tiny_bundle), "--data", str(tmp_path / "pairs.csv")]
    arguments += ["--no-shapes", "--json"]
    done = CliRunner().invoke(steering, [*arguments, "--held-out", "image"])
    assert done.exit_code == 0, done.output
    rows_of = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {row["split"] for row in rows_of} == {"held_out"}
    named = {row["condition"] for row in rows_of}
    assert {"unsteered", "is it: another"} <= named
    assert "is it: its category" not in named  # nobody has said what kind of thing it is
    assert "steering: not measured" in done.stderr
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before
    none = CliRunner().invoke(steering, [*arguments, "--trained", "all"])
    assert none.output.splitlines()[-1] == "Error: --split: name one of train, held_out"
    # Not the bundle that it was trained on.
    other = CliRunner().invoke(steering, [*arguments, "--bundle", str(default_bundle())])
    assert other.output.splitlines()[-1].startswith("Error: adapter.json: for 256 concepts on 16")


def test_only_labels_that_share_no_word_are_steered_to() -> None:
    meta = [{"caption": "a red circle"}, {"caption": "a blue circle"}, {"caption": "a dog"}]
    labels = [m["caption"] for m in meta]
    trials = whole_label_trials(meta, [0, 1, 2], labels, 3)
    assert [trial.new for trial in trials[:2]] == ["a dog", "a dog"]
    assert whole_label_trials(meta[:2], [0, 1], labels[:2], 2) == []
