"""All figures of an adapter: what it answers unsteered, and how it is steered."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.store import Bundle
from mllm_adapter.data.code_cache import BackboneGraphs, cached_code_table, cached_code_tables
from mllm_adapter.data.easy_vqa import PACKAGE, easy_vqa
from mllm_adapter.evaluation.answerer import Answerer, GeneratedAnswer
from mllm_adapter.evaluation.protocol import (
    QUESTION,
    SteeringBench,
    Trial,
    is_it,
    mean_codes,
    mean_states,
    parts,
    swaps,
    yes_or_no,
)
from mllm_adapter.evaluation.scores import (
    EmbedSentences,
    same,
    score_answers,
    score_steering,
    words,
)
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.text_codes import TextCodes
from training.data.shards import read_index, read_split
from training.loading.augment import AugmentConfig

TRAIN_SPLIT = "train"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which K and which SS; the first of each is what the controls take, and what parts take."""

    tops: tuple[int, ...] = (32, 16, 8, 4, 2, 1)
    strengths: tuple[float, ...] = (2.0, 0.5, 1.0, 4.0)
    images: int = 400
    """At most, of those that are named right."""


class Evaluation:
    """One adapter on one split of a data set."""

    def __init__(
        self, folder: Path, bundle: Bundle, data: Path, split: str, judge: EmbedSentences | None
    ) -> None:
        self.answerer, self.data, self.split, self.judge = Answerer(folder), data, split, judge
        self.bundle, self.graphs = bundle, BackboneGraphs(bundle)
        self.meta = [sample.meta for sample in read_split(data, split)]
        [self.table] = cached_code_tables(self.graphs, data, split, 0, AugmentConfig())
        self.labels = TextCodes(self.graphs.texts, self.graphs.concepts)
        self.labels.add(m["caption"] for m in self.meta)

    def unsteered(self) -> tuple[dict[str, Any], list[GeneratedAnswer]]:
        """What it calls the images of the split, and with all codes at 0 in their place."""
        wanted = [m["caption"] for m in self.meta]
        questions = [QUESTION] * len(wanted)
        codes = self.table.codes(range(len(wanted)))
        answers = self.answerer(codes, questions)
        blind = self.answerer(PatchCodes(codes.indices, codes.values * 0), questions)
        return {
            "unsteered": asdict(score_answers(answers, wanted, self.judge)),
            "no_image": asdict(score_answers(blind, wanted, self.judge)),
        }, answers

    def confirmed(self) -> dict[str, Any]:
        """Whether an image is what it is, something else of its category, anything else."""
        rng = random.Random(0)
        labels = sorted({m["caption"] for m in self.meta})
        kinds: dict[str, set[str]] = {}
        for m in self.meta:
            kinds.setdefault(m["category"], set()).add(m["caption"])
        asked: dict[str, list[tuple[int, str]]] = {"itself": [], "its category": [], "another": []}
        for i, m in enumerate(self.meta):
            asked["itself"].append((i, m["caption"]))
            near = sorted(kinds[m["category"]] - {m["caption"]})
            if near:
                asked["its category"].append((i, rng.choice(near)))
            asked["another"].append((i, rng.choice([x for x in labels if x != m["caption"]])))
        found = {}
        for what, rows in asked.items():
            codes = self.table.codes([image for image, _ in rows])
            answers = self.answerer(codes, [is_it(label) for _, label in rows])
            wanted = ["yes" if what == "itself" else "no"] * len(rows)
            found[f"is it: {what}"] = asdict(score_answers(yes_or_no(answers), wanted, None))
        return found

    def shapes(self) -> dict[str, Any]:
        """Questions of easy-vqa's test part, with and without the images' codes."""
        shapes = easy_vqa("test")
        what = (PACKAGE.label, "test")
        table = cached_code_table(self.graphs, self.data / "codes", lambda: shapes.images, what)
        codes = table.codes([image for image, _ in shapes.questions])
        questions = [turn.question for _, turn in shapes.questions]
        wanted = [turn.answer for _, turn in shapes.questions]
        blind = PatchCodes(codes.indices, codes.values * 0)
        return {
            "easy_vqa": asdict(score_answers(self.answerer(codes, questions), wanted, None)),
            "easy_vqa_no_image": asdict(
                score_answers(self.answerer(blind, questions), wanted, None)
            ),
        }

    def steering(self, right: Sequence[int], sweep: Sweep) -> Iterator[dict[str, Any]]:
        """A row a condition: the sweep of K and SS, controls, labels that were never trained on,
        and edits of parts of labels. `right` are images that are named right."""
        train = [sample.meta for sample in read_split(self.data, TRAIN_SPLIT)]
        known = {m["caption"] for m in train}
        labels = sorted({m["caption"] for m in self.meta} & known)
        right = [image for image in right if self.meta[image]["caption"] in known]
        bench = self._bench(swaps(self.meta, right, labels, sweep.images))
        yield from self._swept(bench, sweep)
        yield from self._controls(bench, sweep, train)
        unseen = self._unseen(known)
        said = {word for m in train for text in m["captions"] for word in words(text)}
        top, strength = sweep.tops[0], sweep.strengths[0]
        for condition, chosen in {
            "labels never trained on": unseen,
            "of these, with words trained on": [u for u in unseen if words(u) <= said],
        }.items():
            if chosen:
                bench = self._bench(swaps(self.meta, right, chosen, sweep.images))
                answers = bench.steered(top, strength)
                yield self._row(condition, bench, answers, top=top, strength=strength)
        trials = [
            trial
            for trial in parts(self.meta, right, labels, sweep.images)
            if all(map(self.labels.has_concepts, trial.difference))
        ]
        bench = self._bench(trials)
        for top in sweep.tops[:3] if trials else ():
            answers = bench.part_steered(top, strength)
            yield self._row("part", bench, answers, part=True, top=top, strength=strength)

    def _bench(self, trials: Sequence[Trial]) -> SteeringBench:
        return SteeringBench(self.answerer, self.table, self.labels, trials)

    def _row(
        self,
        name: str,
        bench: SteeringBench,
        answers: list[GeneratedAnswer],
        part: bool = False,
        **more: Any,
    ) -> dict[str, Any]:
        old, new = [t.old for t in bench.trials], [t.new for t in bench.trials]
        score = score_steering(answers, old, new, self.judge, part)
        return {"condition": name, **more, **asdict(score)}

    def _swept(self, bench: SteeringBench, sweep: Sweep) -> Iterator[dict[str, Any]]:
        for top in sweep.tops:
            for strength in sweep.strengths:
                answers = bench.steered(top, strength)
                yield self._row("steered", bench, answers, top=top, strength=strength)
        top, strength = sweep.tops[0], sweep.strengths[0]
        for fewer in sweep.tops:
            answers = bench.steered(fewer, strength, even=True)
            yield self._row("even values", bench, answers, top=fewer, strength=strength)
        for which, wanted in (("new", "yes"), ("old", "no")):
            about = [getattr(trial, which) for trial in bench.trials]
            said = yes_or_no(bench.steered_and_asked(top, strength, about))
            score = score_answers(said, [wanted] * len(about), None)
            yield {"condition": f"steered, is it the {which} label", **asdict(score)}

    def _controls(
        self, bench: SteeringBench, sweep: Sweep, train: list[Any]
    ) -> Iterator[dict[str, Any]]:
        top, strength = sweep.tops[0], sweep.strengths[0]
        frequency = [concept.frequency for concept in self.bundle.concepts.concepts]
        answers = bench.random_concepts(top, strength, frequency)
        yield self._row("random concepts", bench, answers, top=top, strength=strength)
        yield self._row("told", bench, bench.told())
        [table] = cached_code_tables(self.graphs, self.data, TRAIN_SPLIT, 0, AugmentConfig())
        labels = [label for t in bench.trials for label in (t.old, t.new)]
        means = mean_codes(train, table, labels)
        for factor in (1.0, 2.0, 4.0):
            answers = bench.mean_difference(means, factor)
            yield self._row("difference of means", bench, answers, strength=factor)
        middle = (self.answerer.layers - 1) // 2
        states = mean_states(train, table, labels, self.answerer, middle)
        for factor in (1.0, 2.0, 4.0):
            answers = bench.hidden_difference(states, middle, factor)
            yield self._row("difference of hidden states", bench, answers, strength=factor)

    def _unseen(self, known: set[str]) -> list[str]:
        """Labels of images that the data hold out with all that they share, as far as the text
        tower has concepts for them: `test_codepoint` beside `test_style`."""
        beside = self.split.replace("_style", "_codepoint")
        if beside == self.split or beside not in read_index(self.data)["splits"]:
            return []
        labels = sorted({s.meta["caption"] for s in read_split(self.data, beside)} - known)
        return [label for label in labels if self.labels.has_concepts(label)]

    def right(self, answers: Sequence[GeneratedAnswer]) -> list[int]:
        """The images that are named right."""
        return [
            i
            for i, (answer, m) in enumerate(zip(answers, self.meta, strict=True))
            if same(answer.text, m["caption"])
        ]
