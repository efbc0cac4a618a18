"""Make tests/fixtures/icons: a few dozen samples of the built demo-research, in the same format.

    python -m tests.training.data.make_fixture data/build/demo-research

The smallest drawings are taken, so that the fixture stays small; their splits are those they
have in the full set.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from bundle.atomic import write_file
from tests.support.paths import ICONS
from training.data.dataset import summarise
from training.data.shards import (
    INDEX,
    RECEIPTS,
    Sample,
    ShardInfo,
    read_index,
    read_split,
    write_shard,
)

STYLES = ("twemoji", "fluent-emoji-flat", "noto")
EMOJI = {"train": 16, "val_codepoint": 3, "test_codepoint": 6}
SHARD = 16


def main(built: Path) -> None:
    """Choose, write and index the fixture."""
    every = [(split, s) for split in read_index(built)["splits"] for s in read_split(built, split)]
    drawn: dict[str, dict[str, Sample]] = defaultdict(dict)
    fate: dict[str, str] = {}
    for split, sample in every:
        if sample.meta["set"] in STYLES and sample.meta["category"] != "flags":
            drawn[sample.meta["codepoint"]][sample.meta["set"]] = sample
        if sample.meta["set"] == "twemoji":
            fate[sample.meta["codepoint"]] = split
    # A validation codepoint is never drawn in the test style.
    complete = [
        code
        for code, styles in drawn.items()
        if len(styles) == len(STYLES) - (fate.get(code) == "val_codepoint")
    ]
    complete.sort(key=lambda code: (sum(len(s.png) for s in drawn[code].values()), code))
    chosen: set[str] = set()
    for split, wanted in EMOJI.items():
        groups: set[str] = set()
        for code in complete:
            group = drawn[code]["twemoji"].meta["group"]
            if fate[code] == split and group not in groups and len(groups) < wanted:
                groups.add(group)
                chosen.add(code)
    splits: dict[str, list[Sample]] = {}
    for split, sample in every:
        meta = sample.meta
        keep = meta["set"] in STYLES and meta["codepoint"] in chosen
        keep |= meta["set"] == "fxemoji" and meta["codepoint"] in chosen
        found = splits.setdefault(split, [])
        icons = sum(s.meta["codepoint"] is None for s in found)
        keep |= meta["set"] == "icon-park" and icons < 6 and len(sample.png) < 1500
        if keep:
            found.append(sample)
    for old in [*ICONS.glob("*.tar"), *(ICONS / RECEIPTS).glob("*")]:
        old.unlink()
    ICONS.mkdir(parents=True, exist_ok=True)
    index = read_index(built)
    index["recipe"] = "icons-fixture"
    index["dropped"] = {}
    licences: dict[str, int] = defaultdict(int)
    for split, samples in splits.items():
        shards: list[ShardInfo] = []
        for start in range(0, len(samples), SHARD):
            file = f"{split}-{start // SHARD:05d}.tar"
            shards.append(write_shard(ICONS, file, samples[start : start + SHARD]))
        index["splits"][split] = summarise(samples, shards)
        for sample in samples:
            licences[sample.meta["licence"]] += 1
    index["licences"] = dict(sorted(licences.items()))
    write_file(ICONS / INDEX, json.dumps(index, indent=1).encode() + b"\n")
    for receipt in (ICONS / RECEIPTS).iterdir():
        receipt.unlink()
    (ICONS / RECEIPTS).rmdir()
    for split, samples in splits.items():
        print(split, len(samples), sorted({s.meta["caption"] for s in samples}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
