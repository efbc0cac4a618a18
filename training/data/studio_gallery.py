"""Draws the pictures of the studio's gallery: `python -m training.data.studio_gallery`.

They are of Noto Emoji, a style that the demo's data hold out, at the side that the licence file
beside them says. Some are two drawings beside each other, because regions are about places.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from training.data.data_recipe import find_recipe, load_recipe
from training.data.fetch import default_cache, fetch, members
from training.data.icons import iconify_file, rasterise

FOLDER = Path(__file__).parents[2] / "serving" / "studio" / "gallery"
SIDE = 128
SET = "noto"

PAIRS = {
    "a-cat-and-a-sailboat": ("cat", "sailboat"),
    "a-dog-and-a-car": ("dog", "automobile"),
    "a-horse-and-a-house": ("horse", "house"),
    "a-rocket-and-a-moon": ("rocket", "crescent-moon"),
    "a-strawberry-and-a-banana": ("strawberry", "banana"),
    "a-tree-and-an-owl": ("evergreen-tree", "owl"),
}
"""They come first in the order of names, so that a visitor sees one of them first."""
SINGLES = """
cat dog horse rabbit fox lion cow pig owl penguin duck fish dolphin whale octopus butterfly snail
turtle elephant red-apple banana strawberry grapes lemon carrot pizza hamburger birthday-cake
ice-cream hot-beverage sailboat automobile bicycle locomotive airplane rocket helicopter tractor
house castle volcano evergreen-tree cactus sunflower rainbow snowflake fire crescent-moon umbrella
guitar violin drum key light-bulb camera scissors hammer open-book books crown
""".split()  # noqa: SIM905


def main() -> None:
    """Writes all pictures anew."""
    recipe = load_recipe(find_recipe("demo"))
    [package] = [spec for spec in recipe.packages.values() if spec.name == "@iconify/json"]
    wanted = iconify_file(SET)
    [(_, raw)] = members(fetch(package, default_cache()), lambda name: name == wanted)
    icons = json.loads(raw)
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    for name in SINGLES:
        _write(_drawn(icons, name, SIDE), name)
    for name, pair in PAIRS.items():
        left, right = (_drawn(icons, one, SIDE // 2) for one in pair)
        _write(_beside(left, right), name)
    files = sorted(FOLDER.glob("*.png"))
    print(f"{len(files)} pictures, {sum(file.stat().st_size for file in files):,} bytes")


def _drawn(icons: dict[str, Any], name: str, side: int) -> bytes:
    body = icons["icons"][name]["body"]
    width, height = icons.get("width", 16), icons.get("height", 16)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    svg += f'viewBox="0 0 {width} {height}">{body}</svg>'
    return rasterise(svg, side)


def _beside(left: bytes, right: bytes) -> bytes:
    from PIL import Image

    square = Image.new("RGBA", (SIDE, SIDE))
    for at, content in enumerate((left, right)):
        with Image.open(io.BytesIO(content)) as drawing:
            square.paste(drawing, (at * SIDE // 2, SIDE // 4))
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    return buffer.getvalue()


def _write(content: bytes, name: str) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
