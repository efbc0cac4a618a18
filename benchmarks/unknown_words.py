"""How well the rule of bundle.known_words tells what a text tower knows from what it does not.

Words: is the evidence rule right about words that name training images, and about words of WordNet
that stand in no training caption? Texts: does a text find its held-out images, by how many of its
words are unknown? Templates: what do the words around a label cost?

    python -m benchmarks.unknown_words              # the demo bundle and the demo data
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bundle.known_words import KnownWords
from bundle.store import default_bundle
from bundle.text import clean_text
from training.data.shards import read_split
from training.data.words import WORDS_FILE
from training.evaluation.encoder import BundleEncoder, CodeMatrix, encode_all
from training.evaluation.evaluate import EncodedSplit, encode_splits

RESULTS = Path(__file__).parent / "results"
HELD_OUT = ("test_style", "test_codepoint", "test_both")
TEMPLATES = ("{}", "a {}", "the {}", "{}s", "an icon of a {}", "a photo of a {}")
STRONGEST = 8
MIN_IMAGES = 5
"""A text with fewer held-out images is left out of the retrieval."""


class Retrieval(NamedTuple):
    """How well a text finds the held-out images that have it in their captions."""

    text: str
    auc: float
    """The chance that such an image is ranked over another one."""


def main() -> None:
    """Measures, prints and writes benchmarks/results/unknown_words.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    arguments = parser.parse_args()
    encoder = BundleEncoder(arguments.bundle or default_bundle())
    known = encoder.bundle.known_words
    train = [dict(sample.meta) for sample in read_split(arguments.data, "train")]
    captions = {clean_text(caption) for meta in train for caption in meta["captions"]}
    splits = encode_splits(encoder, arguments.data, HELD_OUT)
    wordnet = (arguments.data / WORDS_FILE).read_text(encoding="utf-8").splitlines()
    result = {
        "model": encoder.name,
        "known_words_and_phrases": len(known.phrases),
        "words": word_figures(encoder, train, captions, wordnet),
        **retrieval_figures(encoder, known, splits, captions),
        "templates": template_figures(encoder, splits[0]),
    }
    text = json.dumps(result, indent=1)
    print(text)
    (RESULTS / "unknown_words.json").write_text(text + "\n")


def word_figures(
    encoder: BundleEncoder,
    train: Sequence[dict[str, Any]],
    captions: set[str],
    wordnet: Iterable[str],
) -> dict[str, Any]:
    """The rule on single words: captions of two or more training images against unseen words."""
    evidence = [{e.source for e in concept.words} for concept in encoder.bundle.concepts.concepts]
    everywhere = set().union(*evidence)
    named = Counter(clean_text(meta["captions"][0]) for meta in train)
    seen = {word for caption in captions for word in caption.split()}
    words = [word for word, images in named.items() if images >= 2 and word.isalpha()]
    unseen = [word for word in wordnet if word.isalpha() and word not in seen]
    texts = [*words, *unseen]
    codes = encode_all(encoder.texts, texts, len(texts), "words")
    ranks = np.array([_rank(word, row, evidence) for word, row in zip(texts, codes, strict=True)])
    is_known = np.arange(len(texts)) < len(words)
    in_evidence = np.array([word in everywhere for word in texts])
    figures: dict[str, Any] = {"known": len(words), "unseen": len(unseen)}
    for name, score in (
        ("rank_of_its_first_concept", -ranks),
        ("evidence_of_its_8_strongest", ranks <= STRONGEST),
        ("evidence_of_any", in_evidence),
    ):
        figures[name] = {"auc": round(auc(score, is_known), 3)}
        if score.dtype == bool:
            figures[name]["known_called_known"] = round(float(score[is_known].mean()), 3)
            figures[name]["unseen_called_known"] = round(float(score[~is_known].mean()), 4)
    return figures


def _rank(word: str, code: NDArray[np.float32], evidence: Sequence[set[str]]) -> int:
    """The place of the first concept, strongest first, for which a word is evidence."""
    for place, concept in enumerate(np.argsort(-code, kind="stable")[: (code > 0).sum()], 1):
        if word in evidence[concept]:
            return place
    return len(code) + 1


def retrieval_figures(
    encoder: BundleEncoder, known: KnownWords, splits: Sequence[EncodedSplit], captions: set[str]
) -> dict[str, Any]:
    """Words, and whole texts that are no training captions, by what the rule says of them."""
    codes = unit(np.concatenate([split.codes for split in splits]))
    metas = [sample.meta for split in splits for sample in split.samples]
    texts = [{clean_text(c) for c in (*meta["captions"], *meta["keywords"])} for meta in metas]
    words = [{word for text in found for word in text.split() if word.isalpha()} for found in texts]
    seen = {word for caption in captions for word in caption.split()}
    figures: dict[str, Any] = {}
    rows = retrieve(encoder, codes, words)
    figures["single_words"] = {
        "known": summary(row for row in rows if not known.unknown(row.text)),
        "unknown, in training captions": summary(
            row for row in rows if known.unknown(row.text) and row.text in seen
        ),
        "unknown, never seen": summary(
            row for row in rows if known.unknown(row.text) and row.text not in seen
        ),
    }
    new = [{text for text in found if text not in captions} for found in texts]
    groups: dict[str, list[Retrieval]] = {}
    for row in retrieve(encoder, codes, new, least=1):
        length, unknown = len(row.text.split()), len(known.unknown(row.text))
        key = f"{min(length, 3)}{'+' if length > 2 else ''} words, {min(unknown, 3)} unknown"
        groups.setdefault(key, []).append(row)
    figures["texts_that_are_no_training_captions"] = {
        key: summary(groups[key]) for key in sorted(groups)
    }
    return figures


def retrieve(
    encoder: BundleEncoder,
    codes: CodeMatrix,
    texts: Sequence[set[str]],
    least: int = MIN_IMAGES,
) -> list[Retrieval]:
    """Ranks the images of `codes` (N, C) for each text that `least` of them have."""
    counts = Counter(text for found in texts for text in found)
    chosen = sorted(text for text, count in counts.items() if count >= least)
    queries = unit(encode_all(encoder.texts, chosen, len(chosen), "texts"))
    return [
        Retrieval(text, auc(codes @ query, np.array([text in found for found in texts])))
        for text, query in zip(chosen, queries, strict=True)
    ]


def template_figures(encoder: BundleEncoder, split: EncodedSplit) -> dict[str, float]:
    """Top-1 accuracy in percent, over labels, when a template stands around every label."""
    labels = sorted({sample.meta["captions"][0] for sample in split.samples})
    truth = np.array([labels.index(sample.meta["captions"][0]) for sample in split.samples])
    images = unit(split.codes)
    figures = {}
    for template in TEMPLATES:
        texts = [template.format(label) for label in labels]
        found = (images @ unit(encode_all(encoder.texts, texts, len(texts), "labels")).T).argmax(1)
        right = [(found[truth == label] == label).mean() for label in range(len(labels))]
        figures[template] = round(100 * float(np.mean(right)), 1)
    return figures


def summary(rows: Iterable[Retrieval]) -> dict[str, Any]:
    """How many texts, and how well they find their images."""
    scores = np.array([row.auc for row in rows])
    return {
        "texts": len(scores),
        "median_auc": round(float(np.median(scores)), 3),
        "share_over_0.8": round(float((scores >= 0.8).mean()), 3),
    }


def auc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive has a higher score than a negative; ties count half."""
    count = int(positive.sum())
    ranks = rankdata(scores)[positive].sum() - count * (count + 1) / 2
    return float(ranks / (count * (len(positive) - count)))


def unit(codes: CodeMatrix) -> CodeMatrix:
    """Codes with rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(codes, axis=1, keepdims=True)
    normalized: CodeMatrix = codes / np.maximum(length, 1e-12)
    return normalized


if __name__ == "__main__":
    main()
