"""Scores of answers, and the steering protocol from end to end on a tiny adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundle.store import open_bundle
from mllm_adapter.cli.evaluate import draw, steering
from mllm_adapter.evaluation.answerer import GeneratedAnswer
from mllm_adapter.evaluation.evaluate import Evaluation, Sweep
from mllm_adapter.evaluation.protocol import partial_label_trials, whole_label_trials
from mllm_adapter.evaluation.scores import score_answers, score_steering, words
from mllm_adapter.trainer.loop import train
from tests.mllm_adapter.runs import recipe, stage


def said(*texts: str, ended: bool = True) -> list[GeneratedAnswer]:
    return [GeneratedAnswer(text, ended) for text in texts]


def test_steering_scores_on_answers_whose_scores_are_known() -> None:
    old, new = ["black cat"] * 5, ["red sports car"] * 5
    answers = said("red sports car", "sports car", "black car", "black cat", "red car black")
    found = score_steering(answers, old, new, None)
    assert (found.exact, found.half, found.old, found.both) == (20, 60, 60, 40)
    assert found.corrupted == 0
    assert score_steering(said("car " * 16), old[:1], new[:1], None).corrupted == 100
    assert score_steering(said("car", ended=False), old[:1], new[:1], None).corrupted == 100


def test_of_a_part_the_rest_must_stay() -> None:
    old, new = ["woman cook"] * 3, ["woman singer"] * 3
    found = score_steering(
        said("woman singer", "man singer", "woman cook"), old, new, None, part=True
    )
    assert found.both == pytest.approx(100 / 3)
    assert found.old == pytest.approx(100 / 3)


def test_answers_beside_labels() -> None:
    found = score_answers(said("Red  Car", "cat", "dog"), ["red car", "cat face", "owl"], None)
    assert found.exact == pytest.approx(100 / 3)
    assert found.half == pytest.approx(200 / 3)
    assert found.cosine is None


def test_trials_have_no_word_in_common_or_some_but_not_all() -> None:
    captions = ["woman cook", "woman singer", "man cook", "red car", "dog"]
    meta: list[dict[str, Any]] = [{"caption": caption} for caption in captions]
    for trial in whole_label_trials(meta, range(5), captions, limit=5):
        assert not words(trial.old) & words(trial.new)
    trials = partial_label_trials(meta, range(5), captions, limit=5)
    assert {trial.old for trial in trials} == {"woman cook", "woman singer", "man cook"}
    assert all(words(t.old) & words(t.new) and t.old != t.new for t in trials)


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
