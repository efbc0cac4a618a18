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
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bundle.concepts import NamedConcept
from bundle.store import default_bundle
from mllm_adapter.evaluation.scores import words
from training.bundling.naming import image_codes_of, vocabulary_of, words_file
from training.evaluation.concept_naming import ConceptNaming, ImageCodes
from training.evaluation.encoder import BundleEncoder, CodeMatrix, encode_all
from training.evaluation.evaluate import EncodedSplit, encode_splits
from training.evaluation.firing import strongest
from training.evaluation.name_qualifiers import ConceptName, told_apart
from training.evaluation.name_trials import (
    FOLDS,
    STRONGEST_CONCEPTS,
    STRONGEST_IMAGES,
    calibrate,
    is_borne_out,
    parts_of,
)

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
        "orders": {
            order: of_order(split.codes * weights, names, own)
            for order, weights in order_weights(concepts).items()
        },
    }


def order_weights(concepts: Sequence[NamedConcept]) -> dict[str, CodeMatrix]:
    """Ways to rank an image's concepts: what its codes are multiplied with, (C,) each."""
    confidence = np.array([c.name_confidence or 0.0 for c in concepts])
    rarity = -np.log(np.clip([c.frequency for c in concepts], 1e-4, 1.0))
    strong = [np.mean([e.value for e in c.images] or [1.0]) for c in concepts]
    weights = {
        "activation": np.ones(len(concepts)),
        "activation, without hubs": np.array([not c.hub for c in concepts]),
        "activation x name_confidence": confidence,
        "activation x log(1 / frequency)": rarity,
        "activation x log(1 / frequency) x name_confidence": rarity * confidence,
        "activation / mean of the four strongest training images": 1 / np.array(strong),
    }
    return {order: values.astype(np.float32) for order, values in weights.items()}


def of_order(
    codes: CodeMatrix, names: Sequence[frozenset[str]], own: Sequence[frozenset[str]]
) -> dict[str, float | None]:
    """How well the five highest codes (N, C) of each image name it, in percent."""
    top = np.argsort(-codes, axis=1, kind="stable")[:, :5].tolist()
    rows = [[k for k in ids if row[k] > 0] for ids, row in zip(top, codes, strict=True)]
    hits = [[bool(names[k] & o) for k in ids] for ids, o in zip(rows, own, strict=True)]
    return {
        "first": percent([bool(found and found[0]) for found in hits]),
        "one of 5": percent([any(found) for found in hits]),
        "share of 5": percent([hit for found in hits for hit in found]),
    }


def trials(encoder: BundleEncoder, data: Path) -> dict[str, Any]:
    """How many names of a score the held-back fifths of the training images bear out."""
    [split] = encode_splits(encoder, data, ["train"])
    vocabulary = vocabulary_of(split, words_file(data))
    images = image_codes_of(split)
    codes = encode_all(encoder.texts, vocabulary, len(vocabulary), "words")
    naming = ConceptNaming(vocabulary, codes, images)
    calibration = calibrate(naming.codes, images.words, vocabulary, naming.names)
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
        "qualifiers": qualifier_trial(naming, images, vocabulary),
    }


def qualifier_trial(
    naming: ConceptNaming, images: ImageCodes, vocabulary: Sequence[str]
) -> dict[str, Any]:
    """How many of the words that tell names apart one of the four strongest held-back images bears
    out, beside the four of another concept of the same name."""
    count = len(images.words)
    is_held_back = np.random.default_rng(0).integers(0, FOLDS, count) == 0
    fitted, held_back = np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back)
    best = naming.names(fitted)
    kept = naming.words_kept(best)
    names = [
        ConceptName(k, vocabulary[own[0][0]], own[0][1])
        for k, (fit, own) in enumerate(zip(best.scores.tolist(), kept, strict=True))
        if fit > 0
    ]
    described = [{*images.words[i], *images.tags[i]} for i in fitted.tolist()]
    qualifiers = told_apart(names, naming.codes[fitted], described)
    words_of_concept = {name.concept: name.word for name in names}
    groups: dict[str, list[int]] = defaultdict(list)
    for name in names:
        groups[name.word].append(name.concept)
    top = strongest(naming.codes[held_back].tocsc(), STRONGEST_IMAGES)

    def shows(concept: int, qualifier: str) -> bool:
        rows = held_back[top[concept]].tolist()
        return any(is_borne_out(parts_of(qualifier), images.words[row]) for row in rows)

    hits, others = [], []
    for concept, qualifier in qualifiers.items():
        group = groups[words_of_concept[concept]]
        if not qualifier.isdigit() and all(len(top[k]) for k in group):
            hits.append(shows(concept, qualifier))
            others += [shows(k, qualifier) for k in group if k != concept]
    return {
        "concepts that share a name with a better one": len(qualifiers),
        "numbered": sum(q.isdigit() for q in qualifiers.values()),
        "borne out, %": percent(hits),
        "borne out by others of the name, %": percent(others),
    }


def percent(hits: Sequence[bool]) -> float | None:
    """The share of hits; None of nothing."""
    return round(100 * float(np.mean(hits)), 1) if len(hits) else None


def _name(concept: NamedConcept) -> str:
    """The name without what tells it from equal ones; empty for a concept without one."""
    return concept.words[0].source if concept.is_named else ""


if __name__ == "__main__":
    main()
