"""CARD.md: what a model is, what it was trained on, its figures and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bundle.concepts import NamedConcept
from bundle.manifest import Training
from training.evaluation.evaluate import SplitFigures, agreement_cells, clarity_cells
from training.loading.samples import DataDescription
from training.model.sentence_tower import KEY, SentenceTextConfig
from training.model.sparse_clip import ModelConfig
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


@dataclass(frozen=True, kw_only=True)
class ResearchFigures:
    """Figures of another run of a bundle's recipe, on data that hold more out."""

    data: DataDescription
    seed: int
    figures: Sequence[SplitFigures]


def model_card(
    name: str,
    version: str,
    recipe: TrainingRecipe,
    record: Training,
    figures: Sequence[SplitFigures],
    data: DataDescription,
    concepts: Sequence[NamedConcept],
    research: ResearchFigures | None = None,
) -> str:
    """The card as Markdown, from the run's own records."""
    model = recipe.model
    scale = f"capped at {model.logit_scale_cap:g}"
    lines = [
        f"# {name} {version}",
        "",
        f"Sparse CLIP (arXiv 2601.20075) with {model.concepts:,} concepts, logit scale {scale}, "
        f"head `{model.head}`, pool `{model.pool}`. {recipe.about.strip()}",
        "",
        *_text_tower(model),
        "## Trained on",
        "",
        f"{record.pairs:,} pairs of `{data.name}`"
        f"{' (`sparseclip data build`)' if data.is_built else ''}, "
        f"{record.samples_seen:,} samples seen, {record.seconds / 60:.0f} minutes on a "
        f"{record.hardware}, seed {record.seed}, started from {record.started_from}.",
        "",
        _licences(data),
        "",
        "## Figures",
        "",
        *_heading(data, figures),
    ]
    lines += _rows(figures, model.concepts)
    lines += [
        "",
        *_clarity(figures),
        *([] if research is None else ["", *_research(research, model.concepts)]),
        "",
        *names_section(concepts),
        "",
        "## Limits",
        "",
        *_knowledge(data, reads_sentences=KEY in model.text),
        "- A word is spread over tens of concepts, and a concept may mean several things: its name "
        "is a hint.",
        "- The dense vectors of images and texts are not in one space, so the bundle offers none.",
        "- The figures hold at this scale only, and predict nothing about a model trained on more.",
    ]
    return "\n".join(lines) + "\n"


def described_encoder(model: ModelConfig) -> str:
    """The sentence encoder of a run's model, with its licence; empty without one."""
    if KEY not in model.text:
        return ""
    config = SentenceTextConfig.of(model.text)
    name, licence = config.sentence_encoder, "unknown"
    if config.encoder is not None:
        name, licence = config.encoder.name, config.encoder.licence
    return f"{name} (licence: {licence}; {'frozen' if config.frozen else 'trained further'})"


def _text_tower(model: ModelConfig) -> list[str]:
    if KEY not in model.text:
        return []
    config = SentenceTextConfig.of(model.text)
    digest = config.encoder.weights_sha256 if config.encoder else ""
    return [
        f"The text tower is the sentence encoder {described_encoder(model)}, and a layer of "
        f"{config.hidden} on its vector. The sha256 of the encoder's weights is `{digest}`.",
        "",
    ]


def _licences(data: DataDescription) -> str:
    if not data.is_built:
        return "The licences of the images, and of the weights, are those that their owner names."
    counts = ", ".join(f"{n:,} {licence}" for licence, n in sorted(data.licences.items()))
    return (
        f"Images of the data set by licence: {counts}. CC-BY-4.0: Twemoji (Twitter and "
        "contributors), EmojiOne 2 (JoyPixels), Streamline. The weights are Apache-2.0."
    )


def _heading(data: DataDescription, figures: Sequence[SplitFigures]) -> list[str]:
    if not figures:
        return ["No figures: no images were held out."]
    clusters = "codepoint" if data.is_built else "caption"
    return [
        f"None of these images was trained on. Standard errors are clustered by {clusters}.",
        "",
        *_table_head(),
    ]


def _table_head() -> list[str]:
    return ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]


def _rows(figures: Sequence[SplitFigures], concepts: int) -> list[str]:
    rows = []
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
            f"{f.image_sparsity.l0:.0f} of {concepts}",
            f"{f.text_sparsity.l0:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _research(research: ResearchFigures, concepts: int) -> list[str]:
    """The figures of the research model, under a heading that says whose they are."""
    data = research.data
    return [
        "### Figures of another model: the same recipe with more held out",
        "",
        "How does the recipe do on things that it never saw? This bundle cannot say: it was "
        "trained on them. The figures below are of a run of the same recipe on the "
        f"{data.pairs:,} pairs of `{data.name}`, seed {research.seed}, and not of this bundle.",
        "",
        *_table_head(),
        *_rows(research.figures, concepts),
    ]


def _knowledge(data: DataDescription, *, reads_sentences: bool) -> list[str]:
    beyond = (
        "- The sentence encoder has read more words than the captions have. Such a word comes near "
        "its neighbours, but no image was trained with it."
    )
    if not data.is_built:
        known = "- The model knows images and words such as those of its data"
        return [f"{known}.", beyond] if reads_sentences else [f"{known}, and no others."]
    drawings = "- The model knows drawings: icons and emoji. It was not trained on photographs."
    if reads_sentences:
        return [drawings, beyond]
    return [
        drawings,
        "- It knows the English names and keywords of icons. Other words and other languages are "
        "split into tokens that it has rarely seen.",
    ]


NAMES_HEADING = "## Names of concepts"


def names_section(concepts: Sequence[NamedConcept]) -> list[str]:
    """What the names of concepts are made of, and how far they can be trusted."""
    trusted = [c.name_confidence for c in concepts if c.name_confidence is not None]
    unnamed = sum(not c.is_named for c in concepts)
    hubs, active = sum(c.hub for c in concepts), sum(c.active for c in concepts)
    lines = [
        NAMES_HEADING,
        "",
        "A name is the caption or keyword that says most about the training images that activate "
        "the concept. Names, evidence and frequencies come from training images only. "
        f"Of {len(concepts):,} concepts {active:,} fire on two or more of them, and {unnamed:,} "
        f"have no name that can be trusted. {hubs:,} are hubs: among the strongest concepts of "
        "many images that none of their words describes.",
    ]
    if trusted:
        low, high = np.quantile(trusted, [0.1, 0.9])
        lines += [
            "",
            "`name_confidence` is the share of names of the same score that the caption or "
            "keywords of one of the concept's four strongest images hold, among images held back "
            f"when the name was fitted: {np.mean(trusted):.0%} on average, at most {low:.0%} for "
            f"the lowest tenth and at least {high:.0%} for the highest.",
        ]
    return lines


def with_names(card: str, heading: str, concepts: Sequence[NamedConcept]) -> str:
    """The card of another version, with another heading and another section on names. The section
    is put before the limits where there was none."""
    lines = card.splitlines()
    if lines and lines[0].startswith("# "):
        lines[0] = f"# {heading}"
    starts = [i for i, line in enumerate(lines) if line.startswith("## ")]
    section = [*names_section(concepts), ""]
    if NAMES_HEADING in lines:
        start = lines.index(NAMES_HEADING)
        end = next((i for i in starts if i > start), len(lines))
    else:
        start = end = next((i for i in starts if lines[i] == "## Limits"), len(lines))
    return "\n".join([*lines[:start], *section, *lines[end:]]).rstrip() + "\n"


def _clarity(figures: Sequence[SplitFigures]) -> list[str]:
    judged = [(f.clarity.judge, clarity_cells(f)) for f in figures if f.clarity is not None]
    if not judged:
        return ["Clarity, how well the images of a concept belong together, was not measured."]
    return [
        f"Do the images of a concept belong together? Judged by {judged[0][0]} from their "
        "captions, over pairs of different things. Random sets have the same sizes. An untrained "
        "head has random directions over the same image tower, and as many active concepts.",
        "",
        "| split | concepts | clarity | random sets | untrained | monosemanticity | random sets "
        "| untrained |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(cells)} |" for _, cells in judged),
        "",
        "Are the images and the texts that fire a concept about the same things? The mean cosine "
        "of their captions and the texts, over pairs of different things, by the same judge. "
        "Beside it: each concept's images with the texts of another one, and untrained heads.",
        "",
        "| split | concepts | agreement | of other concepts | untrained |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(agreement_cells(f))} |" for f in figures if f.agreement is not None),
    ]
