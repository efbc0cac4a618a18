"""Trials: which label an image is steered to."""

from __future__ import annotations

from typing import Any

from mllm_adapter.evaluation.scores import words
from mllm_adapter.evaluation.steering_protocol import partial_label_trials, whole_label_trials


def test_trials_have_no_word_in_common_or_some_but_not_all() -> None:
    captions = ["woman cook", "woman singer", "man cook", "red car", "dog"]
    meta: list[dict[str, Any]] = [{"caption": caption} for caption in captions]
    for trial in whole_label_trials(meta, range(5), captions, limit=5):
        assert not words(trial.old) & words(trial.new)
    trials = partial_label_trials(meta, range(5), captions, limit=5)
    assert {trial.old for trial in trials} == {"woman cook", "woman singer", "man cook"}
    assert all(words(t.old) & words(t.new) and t.old != t.new for t in trials)
