"""How well concept names and nearest captions say what held-out images show, beside chance.

An image counts as named when the name or caption shares a word with its own caption. By chance: the
names are those of other concepts, and the captions those found for other images. Names were fitted
on training images, so these images tell how good they are.

    python -m benchmarks.names                   # the demo bundle on its held-out splits
    python -m benchmarks.names --part trials     # how names of a score fared in trials; minutes
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.concepts import NamedConcept
from bundle.store import default_bundle
from mllm_adapter.evaluation.scores import words
from training.bundling.naming import image_codes_of, vocabulary_of, words_file
from training.evaluation.concept_naming import ConceptNaming
from training.evaluation.encoder import BundleEncoder, encode_all
from training.evaluation.evaluate import EncodedSplit, encode_splits
from training.evaluation.name_trials import STRONGEST_CONCEPTS, calibrate

RESULTS = Path(__file__).parent / "results" / "names.json"
CAPTIONS = 3


def main() -> None:
    """Measures one part and adds it to benchmarks/results/names.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bundle", type=Path, help="default: the demo bundle")
    parser.add_argument("--data", type=Path, default=Path("data/build/demo-research"))
    parser.add_argument("--part", choices=("held_out", "trials"), default="held_out")
    parser.add_argument(
        "--splits",
        nargs="+",
        default=["val_style", "val_codepoint", "test_style", "test_codepoint"],
    )
    arguments = parser.parse_args()
    encoder = BundleEncoder(arguments.bundle or default_bundle())
    result: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    result["model"] = encoder.name
    if arguments.part == "trials":
        result["trials"] = trials(encoder, arguments.data)
    else:
        splits = encode_splits(encoder, arguments.data, arguments.splits)
        result["held_out"] = {split.name: held_out(encoder, split) for split in splits}
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.write_text(text + "\n")


def held_out(encoder: BundleEncoder, split: EncodedSplit) -> dict[str, Any]:
    """Shares of a split's images, in percent."""
    own = [words(str(sample.meta["caption"])) for sample in split.samples]
    generator = np.random.default_rng(0)
    captions = encoder.bundle.captions
    if captions is None:
        raise SystemExit("the bundle has no captions")
    found = []
    for row in split.codes:
        ids = np.flatnonzero(row)
        found.append([words(text) for text, _ in captions.nearest(ids, row[ids], CAPTIONS)])
    others = [found[i] for i in generator.permutation(len(found))]
    concepts = encoder.bundle.concepts.concepts
    names = [words(_name(concept)) for concept in concepts]
    shuffled = [names[i] for i in generator.permutation(len(names))]
    strongest = np.argsort(-split.codes, axis=1, kind="stable")[:, :STRONGEST_CONCEPTS]
    ranked = [
        [k for k in row if codes[k] > 0] for row, codes in zip(strongest, split.codes, strict=True)
    ]
    shown = [(image, k) for image, row in enumerate(ranked) for k in row]
    trusted = np.median([c.name_confidence for c in concepts if c.name_confidence is not None])

    def named(pairs: Sequence[tuple[int, int]], by: Sequence[frozenset[str]]) -> float | None:
        return percent([bool(by[k] & own[image]) for image, k in pairs])

    first = [(image, row[0]) for image, row in enumerate(ranked) if row]
    hubs = [(image, k) for image, k in shown if concepts[k].hub]
    return {
        "images": len(own),
        "nearest caption": percent(
            [bool(f[:1] and f[0] & o) for f, o in zip(found, own, strict=True)]
        ),
        f"one of {CAPTIONS} captions": percent(
            [any(c & o for c in f) for f, o in zip(found, own, strict=True)]
        ),
        "nearest caption, by chance": percent(
            [bool(f[:1] and f[0] & o) for f, o in zip(others, own, strict=True)]
        ),
        "strongest concept": named(first, names),
        "strongest concept, by chance": named(first, shuffled),
        "strongest concept, name_confidence of the upper half": named(
            [(i, k) for i, k in first if (concepts[k].name_confidence or 0) >= trusted], names
        ),
        "strongest concept, of the lower half": named(
            [(i, k) for i, k in first if (concepts[k].name_confidence or 0) < trusted], names
        ),
        "one of 5 strongest concepts": percent(
            [any(names[k] & o for k in row[:5]) for row, o in zip(ranked, own, strict=True)]
        ),
        "one of 5 strongest concepts, by chance": percent(
            [any(shuffled[k] & o for k in row[:5]) for row, o in zip(ranked, own, strict=True)]
        ),
        f"hubs among the {STRONGEST_CONCEPTS} strongest": percent(
            [concepts[k].hub for _, k in shown]
        ),
        "a hub that is among them": named(hubs, names),
        "another concept that is among them": named(
            [(i, k) for i, k in shown if not concepts[k].hub], names
        ),
    }


def trials(encoder: BundleEncoder, data: Path) -> dict[str, Any]:
    """How many names of a score the held-back fifths of the training images bear out."""
    [split] = encode_splits(encoder, data, ["train"])
    vocabulary = vocabulary_of(split, words_file(data))
    images = image_codes_of(split)
    codes = encode_all(encoder.texts, vocabulary, len(vocabulary), "words")
    naming = ConceptNaming(vocabulary, codes, images)
    calibration = calibrate(naming.codes, images.words, vocabulary, naming.best_words)
    if calibration is None:
        raise SystemExit("too few trials")
    at = np.linspace(0, 1, 11)
    scores = np.quantile(calibration.scores, at)
    return {
        "trials": len(calibration.scores),
        "borne out, %": round(100 * calibration.mean, 1),
        "borne out by chance, %": round(100 * calibration.random, 1),
        "kept from, %": round(100 * calibration.threshold, 1),
        "by quantile of the score": {
            f"{q:.1f}": {
                "score": round(float(score), 5),
                "borne out, %": round(100 * calibration.confidence(float(score)), 1),
            }
            for q, score in zip(at, scores, strict=True)
        },
    }


def percent(hits: Sequence[bool]) -> float | None:
    """The share of hits; None of nothing."""
    return round(100 * float(np.mean(hits)), 1) if len(hits) else None


def _name(concept: NamedConcept) -> str:
    """The name without what tells it from equal ones; empty for a concept without one."""
    return concept.words[0].source if concept.is_named else ""


if __name__ == "__main__":
    main()
