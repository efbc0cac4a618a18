"""Zero-shot, retrieval, sparsity and clarity of a model on the splits of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.clarity import Clarity, Judge, judge_images, measure_clarity
from training.evaluation.encoder import CodeMatrix, Encoder, encode_all
from training.evaluation.metrics import Sparsity, ZeroShot, sparsity, zero_shot
from training.evaluation.tower_agreement import TowerAgreement, tower_agreement
from training.evaluation.untrained import UntrainedHead, untrained_head
from training.loading.pair_data import ALL, TRAIN, PairData
from training.loading.samples import LabelledImage, as_pair_data, read_samples

CLARITY_FIGURES = ("clarity", "clarity_random", "monosemanticity", "monosemanticity_random")
"""Figures whose names end in the judge's name, as the judge sets their scale."""


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """The N samples of a split, with the codes of their images."""

    name: str
    samples: Sequence[LabelledImage]
    codes: CodeMatrix
    """(N, C), from the image tower."""
    held_out: bool
    """Whether the split was not trained on."""
    control: CodeMatrix | None = None
    """(N, C), from an untrained head over the same tower; None where there is no control."""


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """All figures of one split."""

    split: str
    zero_shot: ZeroShot
    image_sparsity: Sparsity
    text_sparsity: Sparsity
    clarity: Clarity | None
    """None without a judge, or when no concept fires on two different things."""
    clarity_untrained: Clarity | None = None
    """The same of an untrained head over the same tower; None without a control."""
    agreement: TowerAgreement | None = None
    """None without a judge, or when no concept fires on images and texts of different things."""
    agreement_untrained: TowerAgreement | None = None
    """The same of untrained heads over the same towers; None without a control."""


def encode_splits(
    encoder: Encoder,
    data: Path | PairData,
    names: Sequence[str],
    trained: str = TRAIN,
    control: UntrainedHead | None = None,
) -> list[EncodedSplit]:
    """Encodes the images of splits, reading each shard once; `trained` is the split that was
    trained on. With a control, held-out images are also encoded by it. Raises DataError."""
    samples_by_split = read_samples(as_pair_data(data), names)
    reduction = encoder.preprocess.reduction
    held_out = {name: trained not in (name, ALL) for name in names}
    codes: dict[str, CodeMatrix] = {}
    for is_held_out in (True, False):
        kind = [name for name in names if held_out[name] is is_held_out]
        if not kind:
            continue
        images = (sample.decoded(reduction) for name in kind for sample in samples_by_split[name])
        sizes = [len(samples_by_split[name]) for name in kind]
        encode = control.beside if control is not None and is_held_out else encoder.images
        found = np.zeros((0, 0), dtype=np.float32)  # where no pair was held out, say
        if sum(sizes):
            found = encode_all(encode, images, sum(sizes), "images")
        codes |= zip(kind, np.split(found, np.cumsum(sizes)[:-1]), strict=True)
    splits = []
    for name in names:
        own, beside = codes[name], None
        if control is not None and held_out[name]:
            own, beside = np.split(own, 2, axis=1)
        splits.append(
            EncodedSplit(
                name=name,
                samples=samples_by_split[name],
                codes=own,
                held_out=held_out[name],
                control=beside,
            )
        )
    return splits


def evaluate_split(
    encoder: Encoder, data: Path | PairData, split: str, judge: Judge | None = None
) -> SplitFigures:
    """Encodes a split and measures it. Raises DataError."""
    control = None if judge is None else untrained_head(encoder)
    [encoded] = encode_splits(encoder, data, [split], control=control)
    return evaluate_encoded(encoder, encoded, judge, control)


def evaluate_encoded(
    encoder: Encoder,
    split: EncodedSplit,
    judge: Judge | None = None,
    control: UntrainedHead | None = None,
) -> SplitFigures:
    """Measures an encoded split: its images against its distinct captions. `control` is the one
    with which the split was encoded, if any."""
    meta = [sample.meta for sample in split.samples]
    names = sorted({m["caption"] for m in meta})
    index = {name: i for i, name in enumerate(names)}
    label = np.array([index[m["caption"]] for m in meta])
    group = [str(m["group"] or m["caption"]) for m in meta]
    encode = encoder.texts if control is None else control.texts_beside
    text = encode_all(encode, names, len(names), f"{split.name} captions")
    beside = None
    if control is not None:
        text, beside = np.split(text, 2, axis=1)
    clarity: list[Clarity | None] = [None, None]
    agreement: list[TowerAgreement | None] = [None, None]
    if judge is not None:
        of_caption = {m["caption"]: m for m in reversed(meta)}
        judged = judge_images([*meta, *(of_caption[name] for name in names)], judge)
        images, texts = judged.part(slice(len(meta))), judged.part(slice(len(meta), None))
        for i, (own, own_text) in enumerate(((split.codes, text), (split.control, beside))):
            if own is not None:
                clarity[i] = measure_clarity(own, images)
            if own is not None and own_text is not None:
                agreement[i] = tower_agreement(own, own_text, images, texts)
    return SplitFigures(
        split=split.name,
        zero_shot=zero_shot(split.codes, text, label, group),
        image_sparsity=sparsity(split.codes),
        text_sparsity=sparsity(text),
        clarity=clarity[0],
        clarity_untrained=clarity[1],
        agreement=agreement[0],
        agreement_untrained=agreement[1],
    )


def clarity_cells(figures: SplitFigures) -> list[str]:
    """A row of a table: the split, its concepts with a figure, and clarity and monosemanticity,
    each with random sets and the untrained head."""
    clarity, control = figures.clarity, figures.clarity_untrained
    if clarity is None:
        return [figures.split, *["–"] * 7]
    return [
        figures.split,
        f"{clarity.concepts}",
        f"{clarity.clarity:.3f}",
        f"{clarity.clarity_random:.3f}",
        "–" if control is None else f"{control.clarity:.3f}",
        f"{clarity.monosemanticity:.3f}",
        f"{clarity.monosemanticity_random:.3f}",
        "–" if control is None else f"{control.monosemanticity:.3f}",
    ]


def agreement_cells(figures: SplitFigures) -> list[str]:
    """A row of a table: the split, its concepts with a figure, and the agreement of the towers with
    texts of other concepts and untrained heads."""
    own, control = figures.agreement, figures.agreement_untrained
    if own is None:
        return [figures.split, *["–"] * 4]
    return [
        figures.split,
        f"{own.concepts}",
        f"{own.agreement:.3f}",
        f"{own.agreement_random:.3f}",
        "–" if control is None else f"{control.agreement:.3f}",
    ]


def figures_by_name(figures: list[SplitFigures]) -> dict[str, float]:
    """Figures by dotted name (`test_style.top1`), as a manifest keeps them."""
    result: dict[str, float] = {}
    for f in figures:
        z = f.zero_shot
        rows: dict[str, Any] = {
            "top1": z.top1.percent,
            "top1_error": z.top1.error,
            "top5": z.top5.percent,
            "text_to_image_1": z.text_to_image_1.percent,
            "l0_image": f.image_sparsity.l0,
            "l0_text": f.text_sparsity.l0,
            "active": f.image_sparsity.active,
        }
        if f.clarity is not None:
            rows |= {
                f"{figure}.{f.clarity.judge}": getattr(f.clarity, figure)
                for figure in CLARITY_FIGURES
            }
        if f.clarity_untrained is not None:
            rows |= {
                f"{figure}_untrained.{f.clarity_untrained.judge}": getattr(
                    f.clarity_untrained, figure
                )
                for figure in ("clarity", "monosemanticity")
            }
        if f.agreement is not None:
            judge = f.agreement.judge
            rows[f"agreement.{judge}"] = f.agreement.agreement
            rows[f"agreement_random.{judge}"] = f.agreement.agreement_random
        if f.agreement_untrained is not None:
            judge = f.agreement_untrained.judge
            rows[f"agreement_untrained.{judge}"] = f.agreement_untrained.agreement
        result.update({f"{f.split}.{k}": round(float(v), 3) for k, v in rows.items()})
    return result
