"""A hand-made data set: a recipe, and its packages in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.data.build import build_dataset
from training.data.data_recipe import DataRecipe, NearRule, PackageSpec, SetSpec, SplitSpec
from training.data.emoji import FILES

LABELS = {"1F34E": "red apple", "1F415": "dog", "1F436": "dog face", "1F680": "rocket"}
CIRCLE = '<circle cx="8" cy="8" r="{}" fill="{}"/>'


def emojibase() -> dict[str, bytes]:
    """The files that the emoji table reads, with four emoji."""
    files: dict[str, Any] = {name: {} for name in FILES}
    files["meta/groups.json"] = {"groups": {"4": "things"}, "subgroups": {"1": "thing"}}
    files["en/data.json"] = [
        {"label": label, "hexcode": code, "tags": ["thing", "dog"], "group": 4, "subgroup": 1}
        for code, label in LABELS.items()
    ]
    files["en/shortcodes/cldr.json"] = {"1F34E": "red_apple", "1F680": "space_ship"}
    return {name: json.dumps(content).encode() for name, content in files.items()}


def icon_set(name: str, icons: dict[str, str], **more: object) -> bytes:
    """A set in the format of @iconify/json."""
    content = {
        "prefix": name,
        "info": {"license": {"spdx": "MIT"}},
        "icons": {icon: {"body": body} for icon, body in icons.items()},
        **more,
    }
    return json.dumps(content).encode()


def iconify() -> dict[str, bytes]:
    """A training style, a test style, and plain icons."""
    emoji = {"red-apple": 7, "dog": 6, "dog-face": 5, "rocket": 4}
    bodies = {name: CIRCLE.format(r, "#c00") for name, r in emoji.items()}
    chars = {code.lower(): label.replace(" ", "-") for code, label in LABELS.items()}
    toned = {"rocket-dark-skin-tone": CIRCLE.format(3, "#111")}
    plain = {
        "wrench-2": CIRCLE.format(2, "#00c"),
        "wrench-3": CIRCLE.format(2, "#00c"),
        "apple-red": CIRCLE.format(3, "#00c"),
        "nothing": "<path d=''/>",
        "7": CIRCLE.format(1, "#00c"),
    }
    greens = {name: body.replace("c00", "0c0") for name, body in bodies.items()}
    return {
        "json/soft.json": icon_set("soft", bodies | toned, chars=chars),
        "json/hard.json": icon_set("hard", greens),
        "json/plain.json": icon_set("plain", plain, categories={"HandTools": ["wrench-2"]}),
    }


def hand_made_recipe(tmp_path: Path, tarball: Callable[[dict[str, bytes]], bytes]) -> DataRecipe:
    """A recipe whose packages lie in the cache already."""
    packages = {}
    for key, files in {"emojibase": emojibase(), "iconify": iconify()}.items():
        content = tarball(files)
        sha256 = hashlib.sha256(content).hexdigest()
        packages[key] = PackageSpec(manager="npm", name=key, version="1", sha256=sha256)
        cached = tmp_path / "cache" / "npm" / f"{key}-1.tgz"
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(content)
    # "group 0" is dealt to test, "group 3" and "group 5" to train.
    near = [("red apple", 0), ("dog( face)?", 3), ("rocket", 5)]
    return DataRecipe(
        schema=1,
        name="tiny",
        render_px=16,
        samples_per_shard=2,
        packages=packages,
        keywords="emojibase",
        sets={
            "soft": SetSpec(package="iconify", kind="emoji", licence="MIT", role="train"),
            "hard": SetSpec(package="iconify", kind="emoji", licence="MIT", role="test_style"),
            "plain": SetSpec(
                package="iconify", kind="icon", licence="MIT", role="train", strip=(r"-\d+$",)
            ),
        },
        splits=SplitSpec(
            salt="s",
            test_fraction=0.5,
            val_fraction=0.1,
            near=tuple(NearRule(group=f"group {i}", match=f"^{label}$") for label, i in near),
        ),
        sha256="0" * 64,
    )


def build(recipe: DataRecipe, tmp_path: Path) -> dict[str, Any]:
    """Build into `out`."""
    return build_dataset(recipe, tmp_path / "out", tmp_path / "cache", workers=1)
