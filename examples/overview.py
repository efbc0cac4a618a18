"""Draws what an image becomes: its named concepts, where one of them fires, and an answer that
follows an edit. `python examples/overview.py OUTPUT.png IMAGE=EDITED_TO...`

    python examples/overview.py o.png docs/images/cat.png=rocket docs/images/sailboat.png=fish
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from bundle.store import default_bundle
from serving.in_process import local_server
from sparseclip import Client, Edit, Steering

QUESTION = "What is this?"
TOP = 6
GREEN, GREY = "#2a7f62", "#b9c2bf"


def main(output: str, *pairs: str) -> None:
    """Asks the shipped model about each image, and draws one row of panels for each."""
    plt.rcParams["font.size"] = 11
    figure, rows = plt.subplots(
        len(pairs),
        4,
        figsize=(12, 2.7 * len(pairs)),
        width_ratios=(1, 1.1, 1, 1.2),
        squeeze=False,
        layout="constrained",
    )
    with local_server(default_bundle()) as address, Client(address) as client:
        for row, pair in zip(rows, pairs, strict=True):
            path, _, word = pair.partition("=")
            draw_row(client, row, Path(path), word)
    titles = ("an image", "its concepts", "where the first one fires", "what a chat answers")
    for panel, title in zip(rows[0], titles, strict=True):
        panel.set_title(title, fontsize=12, color="#333333", y=1.04)
    figure.savefig(output, dpi=110, facecolor="white")
    print(f"wrote {output}")


def draw_row(client: Client, row: Any, path: Path, word: str) -> None:
    """One image: itself, its strongest concepts, the map of the first one, and the two answers."""
    explanation = client.explain(path, top_concepts=TOP, overlay=True)
    scored = [entry.concept for entry in explanation.explanations]
    image, bars, overlay, chat = row
    image.imshow(Image.open(path).convert("RGBA"))
    names, values = [concept.name for concept in scored], [concept.value for concept in scored]
    bars.barh(names, values, color=[GREEN, *[GREY] * (len(scored) - 1)], height=0.62)
    for number, value in enumerate(values):
        bars.text(value, number, f" {value:.2f}", va="center", color="#666666", fontsize=9)
    bars.invert_yaxis()
    bars.spines[["top", "right", "bottom"]].set_visible(False)
    bars.set_xticks([])
    bars.tick_params(axis="y", length=0)
    overlay.imshow(Image.open(io.BytesIO(explanation.explanations[0].overlay_png)))
    overlay.set_xlabel(names[0], color=GREEN)
    plain = answer(client, path, Steering())
    edits = (Edit(op="ABLATE", phrase=plain), Edit(op="SET", phrase=word))
    steered = answer(client, path, Steering(edits=edits))
    lines = [
        (QUESTION, "#333333", "normal"),
        (plain, "#333333", "bold"),
        (f"suppress {plain}, set {word}", GREEN, "normal"),
        (steered, GREEN, "bold"),
    ]
    for number, (text, colour, weight) in enumerate(lines):
        chat.text(0.02, 0.84 - 0.2 * number, text, color=colour, weight=weight, fontsize=12)
    chat.set_axis_off()
    for panel in (image, overlay):
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)


def answer(client: Client, path: Path, steering: Steering) -> str:
    """The chat's answer about one image."""
    return "".join(event.text for event in client.chat(QUESTION, [path], steering=steering))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
