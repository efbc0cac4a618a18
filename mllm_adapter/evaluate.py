"""All figures of an adapter: what it answers unsteered, and how it is steered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.store import Bundle
from mllm_adapter.answers import Answer, Answerer
from mllm_adapter.codes import BackboneGraphs, code_tables, kept_table
from mllm_adapter.easy_vqa import PACKAGE, easy_vqa
from mllm_adapter.projector import PatchCodes
from mllm_adapter.protocol import QUESTION, Bench, mean_codes, parts, swaps
from mllm_adapter.samples import Labels
from mllm_adapter.scores import Encode, same, score_answers, score_steering
from training.augment import AugmentConfig
from training.data.shards import read_index, read_split

TRAINED = "train"
UNSEEN = "test_codepoint"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Which K and which SS; the first of each is what the controls take, and what parts take."""

    tops: tuple[int, ...] = (32, 16, 8, 4, 2, 1)
    strengths: tuple[float, ...] = (2.0, 0.5, 1.0, 4.0)
    pictures: int = 400
    """At most, of those that are named right."""


class Evaluation:
    """One adapter on one split of a data set."""

    def __init__(
        self, folder: Path, bundle: Bundle, data: Path, split: str, judge: Encode | None
    ) -> None:
        self.answerer, self.data, self.split, self.judge = Answerer(folder), data, split, judge
        self.bundle, self.graphs = bundle, BackboneGraphs(bundle)
        self.meta = [sample.meta for sample in read_split(data, split)]
        [self.table] = code_tables(self.graphs, data, split, 0, AugmentConfig())
        self.labels = Labels(self.graphs.texts, self.graphs.concepts)
        self.labels.learn(m["caption"] for m in self.meta)

    def unsteered(self) -> tuple[dict[str, Any], list[Answer]]:
        """What it calls the pictures of the split, and with all codes at 0 in their place."""
        wanted = [m["caption"] for m in self.meta]
        questions = [QUESTION] * len(wanted)
        codes = self.table.codes(range(len(wanted)))
        answers = self.answerer(codes, questions)
        blind = self.answerer(PatchCodes(codes.indices, codes.values * 0), questions)
        return {
            "unsteered": asdict(score_answers(answers, wanted, self.judge)),
            "no_picture": asdict(score_answers(blind, wanted, self.judge)),
        }, answers

    def shapes(self) -> dict[str, Any]:
        """Questions of easy-vqa's test part, with and without the pictures' codes."""
        shapes = easy_vqa("test")
        what = (PACKAGE.label, "test")
        table = kept_table(self.graphs, self.data / "codes", lambda: shapes.pictures, what)
        codes = table.codes([picture for picture, _ in shapes.questions])
        questions = [turn.question for _, turn in shapes.questions]
        wanted = [turn.answer for _, turn in shapes.questions]
        blind = PatchCodes(codes.indices, codes.values * 0)
        return {
            "easy_vqa": asdict(score_answers(self.answerer(codes, questions), wanted, None)),
            "easy_vqa_no_picture": asdict(
                score_answers(self.answerer(blind, questions), wanted, None)
            ),
        }

    def steering(self, right: Sequence[int], sweep: Sweep) -> Iterator[dict[str, Any]]:
        """A row a condition: the sweep of K and SS, controls, and edits of parts of labels."""
        train = [sample.meta for sample in read_split(self.data, TRAINED)]
        known = {m["caption"] for m in train}
        labels = sorted({m["caption"] for m in self.meta} & known)
        trials = [
            trial for trial in swaps(self.meta, right, labels, sweep.pictures) if trial.old in known
        ]
        old, new = [t.old for t in trials], [t.new for t in trials]
        bench = Bench(self.answerer, self.table, self.labels, trials)

        def row(condition: str, answers: list[Answer], **more: Any) -> dict[str, Any]:
            score = score_steering(answers, old, new, self.judge)
            return {"condition": condition, **more, **asdict(score)}

        for top in sweep.tops:
            for strength in sweep.strengths:
                answers = bench.steered(top, strength)
                yield row("steered", answers, top=top, strength=strength)
        top, strength = sweep.tops[0], sweep.strengths[0]
        for fewer in sweep.tops:
            answers = bench.steered(fewer, strength, even=True)
            yield row("even values", answers, top=fewer, strength=strength)
        frequency = [concept.frequency for concept in self.bundle.concepts.concepts]
        answers = bench.random_concepts(top, strength, frequency)
        yield row("random concepts", answers, top=top, strength=strength)
        yield row("told", bench.told())
        [table] = code_tables(self.graphs, self.data, TRAINED, 0, AugmentConfig())
        means = mean_codes(train, table, [*old, *new])
        for factor in (1.0, 2.0, 4.0):
            answers = bench.mean_difference(means, factor)
            yield row("difference of means", answers, strength=factor)
        unseen = self._unseen(known)
        if unseen:
            trials = swaps(self.meta, right, unseen, sweep.pictures)
            old, new = [t.old for t in trials], [t.new for t in trials]
            bench = Bench(self.answerer, self.table, self.labels, trials)
            answers = bench.steered(top, strength)
            yield row("labels never trained on", answers, top=top, strength=strength)
        pairs = [
            trial
            for trial in parts(self.meta, right, labels, sweep.pictures)
            if all(map(self.labels.known, trial.difference))
        ]
        if not pairs:
            return
        bench = Bench(self.answerer, self.table, self.labels, pairs)
        old, new = [t.old for t in pairs], [t.new for t in pairs]
        for top in sweep.tops[:3]:
            answers = bench.part_steered(top, strength)
            score = score_steering(answers, old, new, self.judge, part=True)
            yield {"condition": "part", "top": top, "strength": strength, **asdict(score)}

    def _unseen(self, known: set[str]) -> list[str]:
        """Labels of pictures that the data hold out with all that they share, as far as the text
        tower has concepts for them."""
        if UNSEEN not in read_index(self.data)["splits"]:
            return []
        labels = sorted({s.meta["caption"] for s in read_split(self.data, UNSEEN)} - known)
        return [label for label in labels if self.labels.known(label)]

    def right(self, answers: Sequence[Answer]) -> list[int]:
        """The pictures that are named right."""
        return [
            i
            for i, (answer, m) in enumerate(zip(answers, self.meta, strict=True))
            if same(answer.text, m["caption"])
        ]
