"""Every figure of an adapter: its unsteered answers, and how well it is steered."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.store import Bundle
from mllm_adapter.data.code_tables import (
    BackboneGraphs,
    cached_code_table,
    check_adapter,
    check_backbone,
)
from mllm_adapter.data.easy_vqa import easy_vqa
from mllm_adapter.data.image_collection import CODES_FOLDER, LabelledImages, shape_images
from mllm_adapter.evaluation.answerer import Answerer, GeneratedAnswer
from mllm_adapter.evaluation.scores import (
    EmbedSentences,
    same,
    score_answers,
    score_steering,
    words,
)
from mllm_adapter.evaluation.steering_protocol import (
    NAME_QUESTION,
    SteeringTest,
    Trial,
    is_it_question,
    mean_codes,
    mean_hidden_states,
    partial_label_trials,
    whole_label_trials,
    yes_or_no,
)
from mllm_adapter.model.adapter import read_config
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.text_to_concepts import TextCodes
from training.data.fetch import default_cache
from training.loading.pair_data import TRAIN, PairData
from training.loading.samples import read_samples

DIFFERENCE_FACTORS = (1.0, 2.0, 4.0)
"""How many times the controls add a difference of means."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The values of K and SS to test. Controls use the first value of each."""

    tops: tuple[int, ...] = (32, 16, 8, 4, 2, 1)
    """K, the new label's concepts that are set."""
    strengths: tuple[float, ...] = (2.0, 0.5, 1.0, 4.0)
    """SS, the value that they are set to."""
    images: int = 400
    """The most images per condition, drawn from those that are named right."""


class Evaluation:
    """One adapter on one split of a data set. Figures are dicts that go to JSON as they are."""

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        data: PairData,
        split: str,
        judge: EmbedSentences | None,
        trained: str = TRAIN,
    ) -> None:
        """`trained` is the split that the adapter learned from, and `split` another one. `judge` is
        the sentence encoder; without one, figures that need it are None."""
        check_backbone(bundle.manifest)
        check_adapter(read_config(folder), bundle.manifest)
        self.answerer, self.data, self.split, self.judge = Answerer(folder), data, split, judge
        self.bundle, self.graphs, self.trained = bundle, BackboneGraphs(bundle), trained
        # Nothing is written beside a user's own images.
        self.work = data.path if data.is_built else default_cache().parent
        images = LabelledImages.read(data, split, self.work)
        self.meta, self.table = images.meta, cached_code_table(self.graphs, images.collection)
        self.text_codes = TextCodes(self.graphs.texts, self.graphs.concepts)
        self.text_codes.add(m["caption"] for m in self.meta)

    def unsteered(self) -> tuple[dict[str, Any], list[GeneratedAnswer]]:
        """Asks for the name of every image. Returns the scores, also of asking with all codes at 0,
        and the answers."""
        captions = [m["caption"] for m in self.meta]
        questions = [NAME_QUESTION] * len(captions)
        codes = self.table.codes(range(len(captions)))
        answers = self.answerer(codes, questions)
        no_image = self.answerer(_zeroed(codes), questions)
        return {
            "unsteered": asdict(score_answers(answers, captions, self.judge)),
            "no_image": asdict(score_answers(no_image, captions, self.judge)),
        }, answers

    def yes_no(self) -> dict[str, Any]:
        """Asks whether an image shows its label, another of its category, and any other label."""
        rng = random.Random(0)
        labels = sorted({m["caption"] for m in self.meta})
        by_category: dict[str, set[str]] = {}
        for m in self.meta:
            by_category.setdefault(m.get("category") or "", set()).add(m["caption"])
        # For each kind of label, pairs of an image and the label that the question names.
        pairs: dict[str, list[tuple[int, str]]] = {"itself": [], "its category": [], "another": []}
        for i, m in enumerate(self.meta):
            pairs["itself"].append((i, m["caption"]))
            same_category = sorted(by_category[m.get("category") or ""] - {m["caption"]})
            if same_category and m.get("category"):
                pairs["its category"].append((i, rng.choice(same_category)))
            if others := [x for x in labels if x != m["caption"]]:
                pairs["another"].append((i, rng.choice(others)))
        figures = {}
        for kind, rows in pairs.items():
            if not rows:
                continue
            codes = self.table.codes([image for image, _ in rows])
            answers = self.answerer(codes, [is_it_question(label) for _, label in rows])
            expected = ["yes" if kind == "itself" else "no"] * len(rows)
            figures[f"is it: {kind}"] = asdict(score_answers(yes_or_no(answers), expected, None))
        return figures

    def easy_vqa(self) -> dict[str, Any]:
        """Asks the questions of easy-vqa's test part, with the images' codes and with zeros."""
        test = easy_vqa("test")
        images = shape_images(test, "test", self.work / CODES_FOLDER)
        table = cached_code_table(self.graphs, images)
        codes = table.codes([image for image, _ in test.questions])
        questions = [turn.question for _, turn in test.questions]
        expected = [turn.answer for _, turn in test.questions]
        answers = self.answerer(codes, questions)
        no_image = self.answerer(_zeroed(codes), questions)
        return {
            "easy_vqa": asdict(score_answers(answers, expected, None)),
            "easy_vqa_no_image": asdict(score_answers(no_image, expected, None)),
        }

    def steering(self, correct: Sequence[int], sweep: Sweep) -> Iterator[dict[str, Any]]:
        """Yields the scores of one condition after another: the sweep of K and SS, the controls,
        labels that were never trained on, and edits of a part of a label.

        `correct` are the images that are named right. Where no other label of the split was trained
        on and shares no word with theirs, there is nothing to yield.
        """
        images = LabelledImages.read(self.data, self.trained, self.work)
        trained_labels = {m["caption"] for m in images.meta}
        labels = sorted({m["caption"] for m in self.meta} & trained_labels)
        correct = [image for image in correct if self.meta[image]["caption"] in trained_labels]
        trials = whole_label_trials(self.meta, correct, labels, sweep.images)
        if not trials:
            return
        test = self._test(trials)
        yield from self._sweep(test, sweep)
        yield from self._controls(test, sweep, images)
        unseen = self._unseen_labels(trained_labels)
        trained_words = {w for m in images.meta for text in m["captions"] for w in words(text)}
        top, strength = sweep.tops[0], sweep.strengths[0]
        for condition, targets in {
            "labels never trained on": unseen,
            "of these, with words trained on": [x for x in unseen if words(x) <= trained_words],
        }.items():
            if trials := whole_label_trials(self.meta, correct, targets, sweep.images):
                test = self._test(trials)
                answers = test.steered(top, strength)
                yield self._score(condition, test, answers, top=top, strength=strength)
        trials = [
            trial
            for trial in partial_label_trials(self.meta, correct, labels, sweep.images)
            if all(map(self.text_codes.has_concepts, trial.difference))
        ]
        test = self._test(trials)
        for top in sweep.tops[:3] if trials else ():
            answers = test.part_steered(top, strength)
            yield self._score("part", test, answers, part=True, top=top, strength=strength)

    def correct(self, answers: Sequence[GeneratedAnswer]) -> list[int]:
        """The images that are named right."""
        return [
            i
            for i, (answer, m) in enumerate(zip(answers, self.meta, strict=True))
            if same(answer.text, m["caption"])
        ]

    def _test(self, trials: Sequence[Trial]) -> SteeringTest:
        return SteeringTest(self.answerer, self.table, self.text_codes, trials)

    def _score(
        self,
        condition: str,
        test: SteeringTest,
        answers: list[GeneratedAnswer],
        part: bool = False,
        **settings: float,
    ) -> dict[str, Any]:
        old, new = [t.old for t in test.trials], [t.new for t in test.trials]
        score = score_steering(answers, old, new, self.judge, part)
        return {"condition": condition, **settings, **asdict(score)}

    def _sweep(self, test: SteeringTest, sweep: Sweep) -> Iterator[dict[str, Any]]:
        for top in sweep.tops:
            for strength in sweep.strengths:
                answers = test.steered(top, strength)
                yield self._score("steered", test, answers, top=top, strength=strength)
        strength = sweep.strengths[0]
        for top in sweep.tops:
            answers = test.steered(top, strength, even=True)
            yield self._score("even values", test, answers, top=top, strength=strength)
        for which, expected in (("new", "yes"), ("old", "no")):
            labels = [getattr(trial, which) for trial in test.trials]
            answers = yes_or_no(test.steered_and_asked(sweep.tops[0], strength, labels))
            score = score_answers(answers, [expected] * len(labels), None)
            yield {"condition": f"steered, is it the {which} label", **asdict(score)}

    def _controls(
        self, test: SteeringTest, sweep: Sweep, images: LabelledImages
    ) -> Iterator[dict[str, Any]]:
        top, strength = sweep.tops[0], sweep.strengths[0]
        frequency = [concept.frequency for concept in self.bundle.concepts.concepts]
        answers = test.random_concepts(top, strength, frequency)
        yield self._score("random concepts", test, answers, top=top, strength=strength)
        yield self._score("told", test, test.answer_in_question())
        table = cached_code_table(self.graphs, images.collection)
        labels = [label for t in test.trials for label in (t.old, t.new)]
        means = mean_codes(images.meta, table, labels)
        for factor in DIFFERENCE_FACTORS:
            answers = test.mean_difference(means, factor)
            yield self._score("difference of means", test, answers, strength=factor)
        middle = (self.answerer.layers - 1) // 2
        states = mean_hidden_states(images.meta, table, labels, self.answerer, middle)
        for factor in DIFFERENCE_FACTORS:
            answers = test.hidden_difference(states, middle, factor)
            yield self._score("difference of hidden states", test, answers, strength=factor)

    def _unseen_labels(self, trained_labels: set[str]) -> list[str]:
        """Labels of the images that are held out together with everything that shares their
        codepoint (`test_codepoint` for `test_style`), as far as concepts fire on them."""
        codepoint_split = self.split.replace("_style", "_codepoint")
        if codepoint_split == self.split or codepoint_split not in self.data.splits:
            return []
        held_out = read_samples(self.data, [codepoint_split])[codepoint_split]
        captions = {sample.meta["caption"] for sample in held_out}
        return [x for x in sorted(captions - trained_labels) if self.text_codes.has_concepts(x)]


def _zeroed(codes: PatchCodes) -> PatchCodes:
    return PatchCodes(codes.indices, codes.values * 0)
