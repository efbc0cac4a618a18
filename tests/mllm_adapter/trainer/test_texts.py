"""Adapters that also learn from phrases: what is learned, what is withheld, and resumption."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bundle.schema import SchemaError
from bundle.store import open_bundle
from mllm_adapter.attach import attach
from mllm_adapter.data.code_tables import BackboneGraphs, cached_code_table
from mllm_adapter.data.image_collection import LabelledImages
from mllm_adapter.data.instructions import Instructions
from mllm_adapter.evaluation.answerer import Answerer
from mllm_adapter.evaluation.steering_protocol import NAME_QUESTION
from mllm_adapter.model.adapter import read_config
from mllm_adapter.steering.text_to_concepts import TextCodes
from mllm_adapter.trainer.loop import train
from mllm_adapter.trainer.training_data import TrainingData
from tests.mllm_adapter.runs import SMALL, recipe, stage
from training.core.checkpoint import CheckpointError
from training.data.data_recipe import DataError

WORDS = ("quark", "zeppelin", "ferret", "yurt")
"""No caption or keyword of the icons."""


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS))
    return path


def texts(path: Path, **settings: Any) -> dict[str, Any]:
    return {
        "share": 0.6,
        "lists": [str(path)],
        "captions": False,
        "keywords": False,
        "pairs": 0.0,
        **settings,
    }


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("share", [0.6, 0.0])
def test_words_that_were_never_an_image_are_said_if_they_were_learned_as_texts(
    tiny_bundle: Path, icons: Path, words: Path, tmp_path: Path, share: float
) -> None:
    """A tiny model with random concepts says one of the words, not each for its own code."""
    small = recipe(tiny_bundle, icons, stage("full", 100, lr=5e-3), texts=texts(words, share=share))
    adapter = train(small, tmp_path / "run")
    assert read_config(adapter).training["text_share"] == share
    graphs = BackboneGraphs(open_bundle(tiny_bundle), threads=1)
    images = LabelledImages.read(small.data.open(), "train", tmp_path)
    codes = cached_code_table(graphs, images.collection).codes([0] * len(WORDS))
    text_codes = TextCodes(graphs.texts, graphs.concepts)
    old = images.meta[0]["caption"]
    plans = [text_codes.swap(old, word, 32, 2.0) for word in WORDS]
    answers = Answerer(adapter)(codes, [NAME_QUESTION] * len(WORDS), plans)
    assert any(answer.text in WORDS for answer in answers) == (share > 0), answers
    card = attach(adapter, tiny_bundle, tmp_path / "models", "9") / "CARD.md"
    assert ("; 60% are about phrases" in " ".join(card.read_text().split())) == (share > 0)


def test_a_stopped_run_goes_on_with_the_same_phrases_only(
    tiny_bundle: Path, icons: Path, words: Path, tmp_path: Path
) -> None:
    withheld = tmp_path / "without.txt"
    withheld.write_text("ferret\n")
    small = recipe(
        tiny_bundle, icons, stage("full", 4), texts=texts(words, without=str(withheld), pairs=0.3)
    )
    train(small, tmp_path / "whole")
    train(small, tmp_path / "parts", stop_after=2)
    for path, line in ((words, "banjo\n"), (withheld, "yurt\n")):
        before = path.read_text()
        path.write_text(before + line)
        with pytest.raises(CheckpointError, match=r"^parts: texts: began with other phrases"):
            train(small, tmp_path / "parts")
        path.write_text(before)
    train(small, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_withheld_words_are_in_neither_kind_of_conversation(
    tiny_bundle: Path, icons: Path, words: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = recipe(tiny_bundle, icons, stage("full", 1), texts=texts(words, captions=True))
    data = TrainingData(small, tmp_path)
    caption = str(data.meta[0]["caption"])  # type: ignore[index]
    assert data.phrases is not None
    assert {caption, *WORDS} <= set(data.phrases.phrases)
    (tmp_path / "without.txt").write_text(f"{caption}\nyurt\n")
    for share in (0.6, 0.0):
        without = texts(words, captions=True, without=str(tmp_path / "without.txt"), share=share)
        small = recipe(tiny_bundle, icons, stage("full", 1), texts=without)
        with caplog.at_level(logging.INFO):
            data = TrainingData(small, tmp_path)
        left_out = sum(meta is None for meta in data.meta)
        assert 0 < left_out < len(data.meta)
        assert f"texts.without: {left_out} of {len(data.meta)} images are left out" in caplog.text
        assert (data.phrases is None) == (share == 0)
        assert not any(caption in text.split(" and ") for text in data.texts())
        assert "yurt" not in data.texts()
        graphs = BackboneGraphs(open_bundle(tiny_bundle), threads=1)
        assert caption not in data.captioned(graphs)[0]
        assert data.digest(graphs.bundle)
    every = recipe(tiny_bundle, icons, stage("full", 1), texts={"without": str(words)})
    captions = {str(meta["caption"]) for meta in TrainingData(every, tmp_path).meta if meta}
    words.write_text("\n".join(captions))
    with pytest.raises(DataError, match=r"texts\.without: leaves no image"):
        TrainingData(every, tmp_path)


def test_captions_of_held_out_images_are_left_out(
    tiny_bundle: Path, icons: Path, words: Path, tmp_path: Path
) -> None:
    plain = recipe(tiny_bundle, icons, stage("full", 1))
    held_out = LabelledImages.read(plain.data.open(), "test_codepoint", tmp_path).meta
    trained = {c for meta in TrainingData(plain, tmp_path).meta if meta for c in meta["captions"]}
    unseen = sorted({meta["caption"] for meta in held_out} - trained)
    assert unseen
    words.write_text("\n".join((unseen[0], *WORDS)))
    data = TrainingData(
        recipe(tiny_bundle, icons, stage("full", 1), texts=texts(words, captions=True)), tmp_path
    )
    assert data.phrases is not None
    assert set(WORDS) <= set(data.phrases.phrases)
    assert not set(unseen) & set(data.phrases.phrases)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"strength": [3.0, 1.0]}, r"texts\.strength: must be two values of at most 10000, the"),
        ({"strength": [1.0]}, r"texts\.strength: must have 2 entries"),
        ({"strength": [0.0, 1.0]}, r"texts\.strength\[0\]: must be greater than 0"),
        ({"pairs": 0.6, "empty": 0.5}, r"texts\.pairs, texts\.empty: are more than 1 together"),
        ({"lists": []}, r"texts: names no source of phrases"),
        ({"share": 1.5}, r"texts\.share: must be 0 to 1"),
        ({"word": 3}, r"texts\.word: unknown key; did you mean words\?"),
        ({"words": -1}, r"texts\.words: must be 0 or more"),
    ],
)
def test_bad_settings_name_their_field(
    settings: dict[str, Any], problem: str, words: Path, tmp_path: Path
) -> None:
    with pytest.raises(SchemaError, match=problem):
        recipe(tmp_path, tmp_path, stage("full", 1), texts=texts(words, **settings))


def test_shares_are_at_most_1_together(words: Path, tmp_path: Path) -> None:
    own = {"path": str(words), "share": 0.5}
    with pytest.raises(SchemaError, match=r"conversations\.share, data\.easy_vqa, texts\.share:"):
        recipe(tmp_path, tmp_path, stage("full", 1), texts=texts(words), conversations=own)


def test_words_are_learned_before_conversations_and_said_whole(
    tiny_bundle: Path, icons: Path, words: Path, tmp_path: Path
) -> None:
    """The parts of the shipped recipe together: cells, a start by words, and whole words."""
    grid = open_bundle(tiny_bundle).manifest.architecture.grid
    small = recipe(
        tiny_bundle,
        icons,
        stage("full", 60, lr=5e-3),
        cells=[1, grid[1]],
        words={"steps": 60, "batch_size": 64},
        llm={"small": {**SMALL, "vocabulary": 300, "whole_words": True}},
        texts=texts(words),
    )
    adapter = train(small, tmp_path / "run")
    assert read_config(adapter).visual_tokens == 1 + grid[1]
    answerer = Answerer(adapter)
    graphs = BackboneGraphs(open_bundle(tiny_bundle))
    images = LabelledImages.read(small.data.open(), "train", tmp_path)
    codes = cached_code_table(graphs, images.collection).codes(range(4))
    said = {answer.text for answer in answerer(codes, [NAME_QUESTION] * 4)}
    learned = [*Instructions(images.meta).texts(), *WORDS]
    assert said
    assert {word for text in said for word in text.split()} <= {
        word for text in learned for word in text.split()
    }
