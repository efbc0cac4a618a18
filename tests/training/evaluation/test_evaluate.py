"""Metrics by hand-made cases; a checkpoint evaluated and named from end to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bundle.image import ImageLimits
from bundle.preprocessor import Preprocessor
from tests.bundle.encoded_images import encode, noise
from tests.training.conftest import ICONS, tiny_recipe
from training.cli.evaluate import evaluate
from training.evaluation.clarity import named_judge
from training.evaluation.concept_naming import ImageCodes, name_concepts
from training.evaluation.encoder import CheckpointEncoder
from training.evaluation.evaluate import evaluate_split, figures_by_name
from training.evaluation.metrics import Floats, rate, sparsity, unit, zero_shot
from training.loading.samples import OwnSample, held_out_splits
from training.model.pixels import preprocessing
from training.trainer.loop import train


def test_zero_shot_counts_ranks() -> None:
    text = np.eye(6, dtype=np.float32)
    image = np.array(
        [
            [1, 0, 0, 0, 0, 0],  # right at once
            [0.9, 1, 0, 0, 0, 0],  # right at once
            [1, 0.9, 0.5, 0, 0, 0],  # its label is third
            [1, 0.9, 0.8, 0.7, 0.6, 0.5],  # its label is sixth
        ],
        dtype=np.float32,
    )
    figures = zero_shot(image, text, np.array([0, 1, 2, 5]), ["a", "b", "c", "d"])
    assert figures.top1.percent == 50
    assert figures.top5.percent == 75
    assert figures.chance == pytest.approx(100 / 6)
    # Text 2 finds the fourth image before its own; texts 3 and 4 have none.
    assert figures.text_to_image_1.percent == 75
    assert figures.text_to_image_5.percent == 100


def test_errors_are_clustered() -> None:
    hits = np.array([True, True, True, True, False, False, False, False])
    apart = rate(hits, list("abcdefgh"))
    together = rate(hits, list("aaaabbbb"))
    assert apart.percent == together.percent == 50
    assert apart.error == pytest.approx(100 * 0.5 / 8**0.5)
    assert together.error == pytest.approx(100 * 0.5 / 2**0.5)


def test_sparsity_counts() -> None:
    codes = np.array([[1, 0, 0, 2], [1, 0, 3, 0]], dtype=np.float32)
    figures = sparsity(codes)
    assert (figures.l0, figures.l0_share, figures.active, figures.dead) == (2, 50, 25, 25)


def test_a_large_jpeg_is_evaluated_by_the_pixels_that_serving_reads() -> None:
    sample = OwnSample(key="a", encoded=encode(noise(400, 300), "JPEG"), meta={})
    preprocess = Preprocessor(preprocessing(32))
    decoded = sample.decoded(preprocess.reduction)
    assert decoded.image.size == (200, 150)
    served = preprocess.decode(sample.encoded, ImageLimits()).pixels
    np.testing.assert_array_equal(preprocess(decoded), served)


def test_a_name_says_most_about_the_images_and_not_about_a_few_of_them() -> None:
    """A word of most of a concept's images is its name, even if the text tower fires it most by a
    word of few of them."""
    rows = ["animal fox", "animal fox", "animal dog", "animal cat", "animal cow", *["car"] * 5]
    tags = [frozenset(row.split()) for row in rows]
    codes = np.zeros((len(rows), 2), dtype=np.float32)
    codes[:5, 0], codes[5:, 1] = 1, 1
    words = ["animal", "fox", "dog", "cat", "cow", "car"]
    text = np.array([[1, 0], [9, 0], [1, 0], [1, 0], [1, 0], [0, 2]], dtype=np.float32)
    images = ImageCodes(codes=codes, sources=["a"] * len(rows), tags=tags, words=tags)
    named = name_concepts(words, text, images)
    assert [c.name for c in named] == ["animal", "car"]
    assert "fox" in named[0].aliases


def test_names_come_from_both_towers() -> None:
    words = ["cat", "dog", "thing", "unseen", "dust"]
    word_codes = np.array(
        [[2, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 0], [0, 2, 0, 0], [0.1, 0, 3, 0]], dtype=np.float32
    )
    images = ImageCodes(
        codes=np.array([[3, 0, 0, 1], [2, 0, 0, 0], [0, 5, 0, 0]], dtype=np.float32),
        sources=["a.png", "b.png", "c.png"],
        tags=[{"cat"}, {"cat", "thing"}, {"dog"}],
        words=[{"cat"}, {"cat", "thing"}, {"dog"}],
    )
    named = name_concepts(words, word_codes, images)
    # "unseen" fires the second concept as "dog" does, but no image bears it out; the third
    # concept fires on no image of a "thing", and the fourth on no word; "dust" is too faint.
    assert [c.name for c in named] == ["cat", "dog", "concept 2 (unnamed)", "concept 3 (unnamed)"]
    assert {c.name_confidence for c in named} == {None}  # three images are too few to say
    assert [c.active for c in named] == [True, False, False, False]
    assert named[0].images[0].source == "a.png"
    assert [e.source for e in named[0].words] == ["cat", "thing"]
    assert named[1].aliases[0] == "unseen"
    assert [c.frequency for c in named] == pytest.approx([2 / 3, 1 / 3, 0, 1 / 3], abs=1e-5)
    assert named[2].modality == 0  # texts alone fire it
    assert named[3].modality == 1  # images alone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps on the committed icons."""
    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(), folder, stop_after=3)
    return folder


def test_checkpoint_from_end_to_end(run: Path) -> None:
    encoder = CheckpointEncoder(run)
    splits = held_out_splits(ICONS)
    assert "train" not in splits
    figures = [evaluate_split(encoder, ICONS, split) for split in splits]
    for f in figures:
        assert 0 < f.image_sparsity.l0 < 128
        assert 0 <= f.zero_shot.top1.percent <= f.zero_shot.top5.percent <= 100
        assert f.clarity is None
    assert {f"{s}.top1" for s in splits} <= set(figures_by_name(figures))
    assert not any("clarity" in name for name in figures_by_name(figures))


class Dice:
    """Judges at random, the same way each time."""

    name = "dice"

    def __call__(self, texts: Sequence[str]) -> Floats:
        draw = np.random.default_rng(len(texts))
        return unit(draw.standard_normal((len(texts), 8)).astype(np.float32))


def test_the_command_says_who_judged(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [str(run), "--data", str(ICONS), "--split", "test_style"]
    monkeypatch.setattr("training.evaluation.minilm.fetched_encoder", lambda: None)
    done = CliRunner().invoke(evaluate, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clarity"] is None
    assert "clarity: not measured; `sparseclip data encoder` fetches" in done.stderr

    monkeypatch.setattr("training.evaluation.minilm.fetched_encoder", Dice)
    done = CliRunner().invoke(evaluate, [*arguments, "--json"])
    figures = json.loads(done.stdout)["clarity"]
    assert figures["judge"] == "dice"
    # Dice see nothing in common: clarity is what random sets have.
    assert figures["clarity"] == pytest.approx(figures["clarity_random"], abs=0.1)
    assert "clarity" not in done.stderr
    shown = CliRunner().invoke(evaluate, arguments, env={"COLUMNS": "160"}).output
    assert "concepts, judged by dice" in shown
    assert f"{figures['clarity']:.3f}" in shown


def test_the_text_tower_s_own_judge_is_named_so(caplog: pytest.LogCaptureFixture) -> None:
    judge = Dice()
    assert named_judge(judge, "") is judge
    assert named_judge(judge, "abc") is judge
    judge.weights_sha256 = "abc"  # type: ignore[attr-defined]
    assert named_judge(judge, "") is judge
    assert named_judge(judge, "abd") is judge
    assert not caplog.messages
    own = named_judge(judge, "abc")
    assert own is not None
    assert own.name == "dice (the text tower's own)"
    assert (own(["a"]) == judge(["a"])).all()
    assert caplog.messages == [
        "clarity: the model's text tower stands on dice, so this is no independent judge"
    ]
