"""Is an adapter steered to words that it never saw as images, and what do its answers cost?

200 nouns of WordNet that are no caption and no keyword of any image are chosen, the same ones for
the same data. Half of them are meant to be learned as texts, and half to be withheld:

    python -m benchmarks.unseen_words --write words     # words/texts.txt, words/withheld.txt
    sparseclip adapter train demo --output runs/texts --set texts.share=0.4 \
        --set 'texts.lists=[words/texts.txt]' --set texts.without=words/withheld.txt
    python -m benchmarks.unseen_words --adapter runs/texts/adapter

Each noun is set on images of a split, whose captions are suppressed, and the adapter is asked what
it sees. Controls: captions that the adapter learned from images, and the noun on empty patches.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import above, at_least
from benchmarks.figures import RESULTS, add_result, machine
from bundle.store import Bundle, default_bundle, open_bundle
from bundle.text import folded
from mllm_adapter.data.code_tables import BackboneGraphs, CodeTable, cached_code_table
from mllm_adapter.data.image_collection import LabelledImages
from mllm_adapter.data.instructions import (
    COUNT_QUESTIONS,
    NAME_QUESTIONS,
    NOTHING_SEEN,
    SENTENCE_QUESTIONS,
)
from mllm_adapter.evaluation.answerer import Answerer, GeneratedAnswer
from mllm_adapter.evaluation.scores import same, score_answers, score_steering, words
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import SteeringPlan
from mllm_adapter.steering.text_to_concepts import TextCodes
from training.data.data_recipe import find_recipe, load_recipe
from training.data.fetch import default_cache, fetch, members
from training.data.words import COUNTS_FILE, SENSE, WORDS_FILE
from training.loading.pair_data import PairData
from training.loading.samples import read_samples

NOUNS = 200
LETTERS = range(3, 13)
OUT = RESULTS / "unseen_words.json"


def main() -> None:
    """Writes the two lists of words, or measures, prints, and adds to the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--split", default="val_style")
    parser.add_argument("--adapter", type=Path, help="default: the bundle's own")
    parser.add_argument("--write", type=Path, help="only write the lists of words to this folder")
    parser.add_argument("--images", type=at_least(1), default=4, help="images for each word")
    parser.add_argument("--top", type=at_least(1), default=32)
    parser.add_argument("--strengths", type=above(0), nargs="+", default=[2.0])
    parser.add_argument("--threads", type=at_least(0), default=0)
    parser.add_argument("--name", help="of the entry in the results; default: the adapter's folder")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    data = PairData(given.data)
    nouns = unseen_nouns(data, NOUNS)
    lists = {"texts": nouns[::2], "withheld": nouns[1::2]}
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        for name, chosen in lists.items():
            (given.write / f"{name}.txt").write_text("".join(f"{word}\n" for word in chosen))
        return
    if given.threads:
        torch.set_num_threads(given.threads)
    bundle = open_bundle(given.bundle or default_bundle())
    folder = given.adapter or bundle.root / "adapter"
    test = WordTest(folder, bundle, data, given.split)
    result = {
        "bundle": f"{bundle.manifest.name}/{bundle.manifest.version}",
        "split": given.split,
        "training": test.answerer.adapter.config.training,
        **test.unsteered(),
        "steered": [
            row
            for strength in given.strengths
            for row in test.steered(lists, given.images, given.top, strength)
        ],
        "machine": machine(),
    }
    print(json.dumps(result, indent=1))
    add_result(given.out, given.name or folder.parent.name, result)


def unseen_nouns(data: PairData, count: int) -> list[str]:
    """Nouns of one word among the most used of WordNet that are no caption or keyword of an image
    of any split, drawn by their digest, so that they do not depend on anything else."""
    recipe = load_recipe(find_recipe("demo"))
    archive = fetch(recipe.packages[recipe.words], default_cache())
    content = next(text for _, text in members(archive, lambda name: name == COUNTS_FILE))
    uses: dict[str, Counter[str]] = {"1": Counter(), "3": Counter(), "5": Counter()}
    for lemma, kind, number in SENSE.findall(content.decode()):
        uses[kind][lemma] += int(number)
    metas = [s.meta for part in read_samples(data, data.splits).values() for s in part]
    taken = {folded(text) for m in metas for text in (*m["captions"], *m["keywords"])}
    most_used = (data.path / WORDS_FILE).read_text(encoding="utf-8").splitlines()
    nouns = [
        word
        for word in most_used
        if word.isalpha() and len(word) in LETTERS and word not in taken
        if uses["1"][word] > uses["3"][word] + uses["5"][word]
    ]
    return sorted(nouns, key=lambda word: hashlib.sha256(word.encode()).digest())[:count]


class WordTest:
    """One adapter, and the images of a split."""

    def __init__(self, folder: Path, bundle: Bundle, data: PairData, split: str) -> None:
        self.answerer, self.data = Answerer(folder), data
        graphs = BackboneGraphs(bundle)
        images = LabelledImages.read(data, split, default_cache().parent)
        self.meta = images.meta
        self.table: CodeTable = cached_code_table(graphs, images.collection)
        self.text_codes = TextCodes(graphs.texts, graphs.concepts)
        self.known = bundle.known_words
        trained = [s.meta for s in read_samples(data, ["train"])["train"]]
        texts = {text for m in trained for text in (*m["captions"], *m["keywords"])}
        self.trained = sorted({m["caption"] for m in trained})
        most_used = (data.path / WORDS_FILE).read_text(encoding="utf-8").splitlines()
        self.english = words(" ".join((*texts, *most_used, NOTHING_SEEN, "no, it is yes")))

    def ask(
        self, codes: PatchCodes, plans: Sequence[SteeringPlan] | None = None, question: str = ""
    ) -> list[GeneratedAnswer]:
        """Answers to one question about all images."""
        questions = [question or NAME_QUESTIONS[0]] * len(codes.indices)
        return self.answerer(codes, questions, plans)

    def unsteered(self) -> dict[str, Any]:
        """Names of all images, and what is said about empty codes."""
        codes = self.table.codes(range(len(self.meta)))
        answers = self.ask(codes)
        score = asdict(score_answers(answers, [m["caption"] for m in self.meta], None))
        asked = (NAME_QUESTIONS[0], SENTENCE_QUESTIONS[0], COUNT_QUESTIONS[0])
        empty = PatchCodes(codes.indices[:1], codes.values[:1] * 0)
        return {
            "unsteered": {**score, "made_of_words": self.made_of_words(answers)},
            "empty_patches": {q: self.ask(empty, question=q)[0].text for q in asked},
        }

    def steered(
        self, lists: dict[str, list[str]], images: int, top: int, strength: float
    ) -> Iterable[dict[str, Any]]:
        """Scores of each list of words, and of captions that were learned from images."""
        draw = random.Random(0)
        groups = {**lists, "captions": draw.sample(self.trained, len(lists["texts"]))}
        for name, chosen in groups.items():
            pairs = [
                (draw.randrange(len(self.meta)), word)
                for word in chosen
                for _ in range(images)
                if self.text_codes.has_concepts(word)
            ]
            codes = self.table.codes([image for image, _ in pairs])
            old = [self.meta[image]["caption"] for image, _ in pairs]
            new = [word for _, word in pairs]
            swaps = [
                self.text_codes.swap(a, b, top, strength) for a, b in zip(old, new, strict=True)
            ]
            edits = [[WordEdit(word=w, op="SET", value=strength, top=top)] for w in new]
            sets = [SteeringPlan(edits=expand(edit, self.text_codes.encode)) for edit in edits]
            empty = PatchCodes(codes.indices, codes.values * 0)
            for kind, (about, plans) in {
                "caption suppressed": (codes, swaps),
                "caption kept": (codes, sets),
                "empty patches": (empty, sets),
            }.items():
                answers = self.ask(about, plans)
                shown = {"words": name, "on": kind, "strength": strength}
                yield {**shown, **self.score(answers, old, new)}

    def score(
        self, answers: Sequence[GeneratedAnswer], old: Sequence[str], new: Sequence[str]
    ) -> dict[str, Any]:
        """Percentages of answers."""
        score = score_steering(answers, old, new, None)
        said = list(zip(new, answers, strict=True))
        known = [not self.known.unknown(word.lower()) for word in new]
        exact = [same(answer.text, word) for word, answer in said]
        return {
            "exact": score.exact,
            "contains": percent(words(word) <= words(answer.text) for word, answer in said),
            "old": score.old,
            "corrupted": score.corrupted,
            "made_of_words": self.made_of_words(answers),
            "known_to_the_text_tower": percent(known),
            "exact_of_known": percent(e for e, k in zip(exact, known, strict=True) if k),
            "answers": len(answers),
            "examples": [f"{word}: {answer.text}" for word, answer in said[:: len(said) // 8 or 1]],
        }

    def made_of_words(self, answers: Sequence[GeneratedAnswer]) -> float:
        """The share of answers that end, and have words of the data and of WordNet only."""
        return percent(
            a.ended and bool(said := words(a.text)) and said <= self.english for a in answers
        )


def percent(hits: Iterable[bool]) -> float:
    """0 where there is nothing to count."""
    values = list(hits)
    return round(100 * sum(values) / max(1, len(values)), 1)


if __name__ == "__main__":
    main()
