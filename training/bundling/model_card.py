"""CARD.md: what a model is, what it was trained on, its figures and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.concepts import NamedConcept
from bundle.manifest import Training
from training.evaluation.evaluate import SplitFigures
from training.trainer.training_recipe import TrainingRecipe

COLUMNS = (
    "split",
    "images",
    "labels",
    "chance",
    "top-1",
    "top-5",
    "text to image @1",
    "L0 image",
    "L0 text",
)


def model_card(
    name: str,
    version: str,
    recipe: TrainingRecipe,
    record: Training,
    figures: Sequence[SplitFigures],
    index: Mapping[str, Any],
    concepts: Sequence[NamedConcept],
) -> str:
    """The card as Markdown, from the run's own records."""
    model = recipe.model
    scale = f"capped at {model.logit_scale_cap:g}"
    active = sum(c.active for c in concepts)
    lines = [
        f"# {name} {version}",
        "",
        f"Sparse CLIP (arXiv 2601.20075) with {model.concepts:,} concepts, logit scale {scale}, "
        f"head `{model.head}`, pool `{model.pool}`. {recipe.about.strip()}",
        "",
        "## Trained on",
        "",
        f"{record.pairs:,} pairs of `{index['recipe']}` (`sparseclip data build`), "
        f"{record.samples_seen:,} samples seen, {record.seconds / 60:.0f} minutes on a "
        f"{record.hardware}, seed {record.seed}, started from {record.started_from}.",
        "",
        "Images of the data set by licence: "
        + ", ".join(f"{n:,} {licence}" for licence, n in sorted(index["licences"].items()))
        + ". CC-BY-4.0: Twemoji (Twitter and contributors), EmojiOne 2 (JoyPixels), Streamline. "
        "The weights are Apache-2.0.",
        "",
        "## Figures",
        "",
        "None of these images was trained on. Standard errors are clustered by codepoint.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for f in figures:
        z = f.zero_shot
        cells = [
            f.split,
            str(z.images),
            str(z.labels),
            f"{z.chance:.2f}%",
            f"{z.top1.percent:.1f} ± {z.top1.error:.1f}%",
            f"{z.top5.percent:.1f} ± {z.top5.error:.1f}%",
            f"{z.text_to_image_1.percent:.1f} ± {z.text_to_image_1.error:.1f}%",
            f"{f.image_sparsity.l0:.0f} of {model.concepts}",
            f"{f.text_sparsity.l0:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{active:,} of {len(concepts):,} concepts fire on at least two of these images.",
        "",
        *_clarity(figures),
        "",
        "## Limits",
        "",
        "- The model knows drawings: icons and emoji. It was not trained on photographs.",
        "- It knows the English names and keywords of icons. Other words and other languages are "
        "split into tokens that it has rarely seen.",
        "- A concept's name is the word that activates it most. At this size a word is spread over "
        "tens of concepts, and a concept may mean several things.",
        "- The figures hold at this scale only, and predict nothing about a model trained on more.",
    ]
    return "\n".join(lines) + "\n"


def _clarity(figures: Sequence[SplitFigures]) -> list[str]:
    judged = [(f.split, f.clarity) for f in figures if f.clarity is not None]
    if not judged:
        return ["Clarity, how well the images of a concept belong together, was not measured."]
    return [
        f"Do the images of a concept belong together? Judged by {judged[0][1].judge} from their "
        "captions, over pairs of different emoji or icons. Random sets have the same sizes.",
        "",
        "| split | concepts | clarity | random sets | monosemanticity | random sets |",
        "|---|---|---|---|---|---|",
        *(
            f"| {split} | {c.concepts} | {c.clarity:.3f} | {c.clarity_random:.3f} "
            f"| {c.monosemanticity:.3f} | {c.monosemanticity_random:.3f} |"
            for split, c in judged
        ),
    ]
