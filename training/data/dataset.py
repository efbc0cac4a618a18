"""A data set on disk: shards per split, and an index that is there only when all of them are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundle.atomic import sweep, write_file
from bundle.progress import show_progress
from training.data.data_recipe import SCHEMA, DataError
from training.data.shards import (
    INDEX,
    RECEIPTS,
    Sample,
    ShardInfo,
    finished_shard,
    plan_digest,
    write_shard,
)


@dataclass(frozen=True, kw_only=True)
class DatasetHeader:
    """The index's entries about the whole data set."""

    recipe: str
    recipe_sha256: str
    render_px: int
    dropped: Mapping[str, int]
    """`set: reason` -> how many drawings were left out."""
    notes: Sequence[str] = ()


def open_output(output: Path) -> None:
    """Makes a data set's folder, or continues one that a build began.

    Raises DataError for a folder that holds anything else.
    """
    if not (output / RECEIPTS).is_dir() and output.is_dir():
        foreign = sorted(path.name for path in output.iterdir())
        if foreign:
            raise DataError(
                f"{output}: not empty and not a data set: it holds {foreign[0]!r}. "
                "Choose a new or an empty folder"
            )
    (output / RECEIPTS).mkdir(parents=True, exist_ok=True)


def write_dataset(
    splits: Mapping[str, Sequence[Sample]],
    header: DatasetHeader,
    output: Path,
    size: int,
) -> dict[str, Any]:
    """Writes shards of `size` samples, then the index, then removes the shards of an earlier build,
    which their receipts name. Returns the index."""
    parts = [(name, start) for name in splits for start in range(0, len(splits[name]), size)]
    shards: dict[str, list[ShardInfo]] = {name: [] for name in splits}
    index_path = output / INDEX
    with show_progress("writing", len(parts), "shards", leave=True) as advance:
        for name, start in parts:
            file = f"{name}-{start // size:05d}.tar"
            samples = splits[name][start : start + size]
            if finished_shard(output, file, plan_digest(samples)) is None:
                # A reader must not trust an index while the shards beneath it change.
                index_path.unlink(missing_ok=True)
            shards[name].append(write_shard(output, file, samples))
            advance()
    licences = Counter(s.meta["licence"] for samples in splits.values() for s in samples)
    index = {
        "schema": SCHEMA,
        "recipe": header.recipe,
        "recipe_sha256": header.recipe_sha256,
        "render_px": header.render_px,
        "splits": {name: summarise(splits[name], shards[name]) for name in splits},
        "licences": dict(sorted(licences.items())),
        "dropped": dict(sorted(header.dropped.items())),
        "notes": list(header.notes),
    }
    write_file(index_path, json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
    current = {info.file for infos in shards.values() for info in infos}
    for receipt in (output / RECEIPTS).glob("*.tar.json"):
        file = receipt.name.removesuffix(".json")
        if file not in current:
            (output / file).unlink(missing_ok=True)
            receipt.unlink()
    for folder in (output, output / RECEIPTS):
        sweep(folder)
    return index


def summarise(samples: Sequence[Sample], shards: Sequence[ShardInfo]) -> dict[str, Any]:
    """The index's entry for one split."""
    return {
        "shards": [asdict(info) for info in shards],
        "samples": len(samples),
        "captions": len({s.meta["caption"] for s in samples}),
        "groups": len({s.meta["group"] for s in samples} - {None}),
        "sets": dict(sorted(Counter(s.meta["set"] for s in samples).items())),
    }
