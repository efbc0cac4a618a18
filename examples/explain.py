"""Show which concepts an image holds, where each of them fires, and why it has its name.

make serve                                                  # in another terminal
python examples/explain.py docs/images/sailboat.png --overlays overlays
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sparseclip import Client

SHADES = " .:-=+*#%@"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--top", type=int, default=3, help="concepts to show, strongest first")
    parser.add_argument("--overlays", type=Path, help="a folder for the maps as PNG images")
    parser.add_argument("--server", default="localhost:50051")
    options = parser.parse_args()

    with Client(options.server) as client:
        explanation = client.explain(
            options.image, top_concepts=options.top, overlay=options.overlays is not None
        )
        for entry in explanation.explanations:
            concept = client.get_concept(entry.concept.concept_id)
            words = ", ".join(word.source for word in concept.words[:5])
            print(f"{concept.name} {entry.concept.value:.2f} (its strongest words: {words})")

            # The activation of each patch of the image, (rows, columns).
            peak = float(entry.values.max()) or 1.0
            for row in entry.values:
                print("  " + "".join(SHADES[int(v / peak * (len(SHADES) - 1))] * 2 for v in row))

            if options.overlays is not None:
                options.overlays.mkdir(parents=True, exist_ok=True)
                path = options.overlays / f"concept-{concept.concept_id}.png"
                path.write_bytes(entry.overlay_png)
                print(f"  {path}")


if __name__ == "__main__":
    main()
