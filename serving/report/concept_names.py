"""What the concepts of an export are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.store import BundleError, default_bundle, open_bundle
from serving.export.job import ExportError, Job
from serving.export.reader import Shards
from serving.export.verify import Watch


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names by concept id."""

    known: Mapping[int, str]
    total: int | None
    """C; None without the bundle, as rows do not tell it."""

    def __getitem__(self, concept: int) -> str:
        return self.known.get(concept) or f"concept {concept}"

    @classmethod
    def of(cls, shards: Shards, bundle: Path | None, watch: Watch) -> Names:
        """From the bundle that made the export, or else those that the rows give.

        The bundle is the named one, or the default one where that made it. Raises ExportError for a
        named one that is another, or BundleError.
        """
        if bundle is not None:
            found = _from_bundle(bundle, shards.job)
            if found is None:
                raise ExportError(f"--bundle: not the {shards.job.model} that made the export")
            return found
        try:
            return _from_bundle(default_bundle(), shards.job) or _from_rows(shards, watch)
        except BundleError:
            return _from_rows(shards, watch)


def _from_bundle(path: Path, job: Job) -> Names | None:
    bundle = open_bundle(path)
    if bundle.manifest.digest != job.bundle:
        return None
    concepts = bundle.concepts.concepts
    return Names(known={concept.id: concept.name for concept in concepts}, total=len(concepts))


def _from_rows(shards: Shards, watch: Watch) -> Names:
    known: dict[int, str] = {}
    if not shards.job.outputs.top:
        return Names(known=known, total=None)
    for receipt in watch(shards.receipts, "reading names"):
        for batch in shards.batches(receipt, ["concepts"]):
            flat = batch["concepts"].flatten()
            ids, places = np.unique(flat.field("id").to_numpy(), return_index=True)
            new = [at for id, at in zip(ids.tolist(), places, strict=True) if id not in known]
            taken = flat.take(np.array(new, np.int64))
            known.update(
                zip(taken.field("id").to_pylist(), taken.field("name").to_pylist(), strict=True)
            )
    return Names(known=known, total=None)
