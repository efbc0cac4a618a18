"""What the concepts of an export are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.store import BundleError, default_bundle, open_bundle
from serving.export.export_reader import ExportReader
from serving.export.job import ExportError, ExportJob
from serving.export.verify_export import TrackProgress


@dataclass(frozen=True, kw_only=True)
class ConceptNames:
    """Names by concept id."""

    names: Mapping[int, str]
    total: int | None
    """C, which only the bundle tells; None without it."""

    def __getitem__(self, concept: int) -> str:
        return self.names.get(concept) or f"concept {concept}"

    @classmethod
    def load(cls, export: ExportReader, bundle: Path | None, track: TrackProgress) -> ConceptNames:
        """The names in the bundle that made the export. Without it, the names that the rows hold.

        The bundle is `bundle`, or the default one if that made the export. Raises ExportError when
        `bundle` did not make it, or BundleError.
        """
        if bundle is not None:
            names = _from_bundle(bundle, export.job)
            if names is None:
                raise ExportError(f"--bundle: not the {export.job.model} that made the export")
            return names
        try:
            return _from_bundle(default_bundle(), export.job) or _from_rows(export, track)
        except BundleError:
            return _from_rows(export, track)


def _from_bundle(path: Path, job: ExportJob) -> ConceptNames | None:
    bundle = open_bundle(path)
    if bundle.manifest.digest != job.bundle:
        return None
    concepts = bundle.concepts.concepts
    return ConceptNames(
        names={concept.id: concept.name for concept in concepts}, total=len(concepts)
    )


def _from_rows(export: ExportReader, track: TrackProgress) -> ConceptNames:
    names: dict[int, str] = {}
    if not export.job.outputs.top:
        return ConceptNames(names=names, total=None)
    for receipt in track(export.receipts, "reading names"):
        for batch in export.batches(receipt, ["concepts"]):
            concepts = batch["concepts"].flatten()
            ids, first = np.unique(concepts.field("id").to_numpy(), return_index=True)
            new = [at for id, at in zip(ids.tolist(), first, strict=True) if id not in names]
            added = concepts.take(np.array(new, np.int64))
            names.update(
                zip(added.field("id").to_pylist(), added.field("name").to_pylist(), strict=True)
            )
    return ConceptNames(names=names, total=None)
