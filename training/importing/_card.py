"""CARD.md of an imported model: what it is, where it is from, and how near it is to its source."""

from __future__ import annotations

from bundle.manifest import Manifest


def import_card(manifest: Manifest, family: str, *, known_licence: bool) -> str:
    """The card as Markdown, from the manifest's own records."""
    origin, parity, architecture = manifest.origin, manifest.source_parity, manifest.architecture
    if origin is None or parity is None:
        raise ValueError("an imported model has an origin and a parity")
    grid = architecture.patch_grid
    patches = f"{grid[0]} x {grid[1]} patches, " if grid else ""
    pixels, score = manifest.preprocessing, architecture.score
    bias = f" {architecture.logit_bias:+.4g}" if score == "sigmoid" else ""
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"A CLIP as it is, of the family `{family}`: vectors of images and texts in one space of "
        f"{architecture.dense_dim} dimensions. It has no sparse codes and no named concepts.",
        "",
        "## Where it is from",
        "",
        f"Imported by `sparseclip import` from `{origin.source}`, which {origin.library} read. "
        f"The weights' sha256 is `{origin.weights_sha256}`. Nothing was trained.",
        "",
        (
            "The licence is in the file LICENSE."
            if known_licence
            else "The licence of the weights is not known here; ask those who published them."
        ),
        "",
        "## Inputs and scores",
        "",
        f"Images of {pixels.size} x {pixels.size} pixels ({pixels.resize}, "
        f"{pixels.interpolation}), {patches}texts of up to {architecture.context_length} tokens "
        f"(`{manifest.tokenization.kind}`). Scores are a {score} of "
        f"{architecture.logit_scale:.4g} x cosine{bias}.",
        "",
        "## Parity with the source library",
        "",
        "| compared | how many | figure |",
        "|---|---|---|",
        f"| pixels, largest difference | {parity.images} images | "
        f"{parity.max_pixel_error * 255:.2f}/255 |",
        f"| token ids | {parity.token_rows} texts | equal |",
        f"| image vectors, lowest cosine | {parity.images} images | "
        f"{parity.min_image_cosine:.6f} |",
        f"| text vectors, lowest cosine | {parity.texts} texts | {parity.min_text_cosine:.6f} |",
    ]
    return "\n".join(lines) + "\n"


def unknown_licence(source: str) -> str:
    """The file LICENSE of weights whose licence nobody named."""
    return (
        f"The licence of these weights is not known to Sparseclip. They come from {source};\n"
        "their licence is the one that their owner gave them.\n"
    )
