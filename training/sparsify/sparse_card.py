"""CARD.md of a sparse bundle over frozen towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bundle.concepts import NamedConcept
from training.bundling.model_card import names_section
from training.loading.samples import DataDescription
from training.sparsify.embeddings.dense_encoder import DenseBundle
from training.sparsify.heads.base import HeadRecipe


def sparse_card(
    heading: str,
    dense: DenseBundle,
    recipe: HeadRecipe,
    data: DataDescription,
    figures: dict[str, Any],
    concepts: Sequence[NamedConcept],
) -> str:
    """The card as Markdown; the dense model's card is its last section."""
    lines = [
        f"# {heading}",
        "",
        f"Sparse codes of {recipe.concepts:,} concepts over the frozen towers of {dense.name}, by "
        f"`sparseclip sparsify` with the head `{recipe.name}`. Images, texts and dense vectors are "
        "read as by the dense model.",
        "",
        "## Trained on",
        "",
        f"The embeddings of {data.pairs:,} images of `{data.name}`, {recipe.steps:,} steps of "
        f"{recipe.batch_size:,}, {figures['seconds']:.0f} s, seed {recipe.seed}. The "
        "dense model was trained on other data; its card, which follows, says on which.",
        "",
        "## Figures",
        "",
        *_figures(figures),
        "",
        *names_section(concepts),
        "",
        "## Limits",
        "",
        "- The codes know what the dense vectors know, and no more.",
        "- A word is spread over many concepts, and a concept may mean several things: its name is "
        "a hint.",
        "- Patches' codes come from what the pooled vector would be if the tower pooled one patch "
        "alone. The heads were not trained on these.",
    ]
    card = dense.bundle.file("CARD.md").read_text(encoding="utf-8")
    nested = "\n".join(f"#{line}" if line.startswith("#") else line for line in card.splitlines())
    return "\n".join(lines) + "\n\n## The dense model\n\n" + nested.rstrip() + "\n"


def _figures(figures: dict[str, Any]) -> list[str]:
    if not figures["splits"]:
        return ["No figures: no images were held out."]
    rows = [
        f"| {split} | {f['images']} | {f['labels']} | {f['top1']['percent']:.1f} ± "
        f"{f['top1']['error']:.1f}% | {f['text_to_image_1']['percent']:.1f}% | "
        f"{f['image_sparsity']['l0']:.0f} | {f['text_sparsity']['l0']:.0f} |"
        for split, f in figures["splits"].items()
    ]
    return [
        "| split | images | labels | top-1 | text to image @1 | L0 image | L0 text |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
