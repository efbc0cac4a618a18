"""An export as it is asked for, fit to be sent to other processes and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.atomic import is_draft
from bundle.store import open_bundle
from serving.engines import ENGINES
from serving.engines.base import EngineConfig
from serving.export.formats import FORMATS
from serving.export.inputs import AUTO
from serving.export.inputs.base import Input, open_input
from serving.export.job import ExportError, Job, OutputConfig
from serving.export.plan import PLAN, is_plan_file, known_totals, totals_of, write_plan
from serving.storage.location import Place


@dataclass(frozen=True, kw_only=True)
class Task:
    """Where from, where to, and with what. Locations must mean the same to every worker."""

    source: str
    kind: str = AUTO
    """A name of INPUTS, or AUTO."""
    column: str = ""
    id_column: str = ""
    output: str
    bundle: Path
    outputs: OutputConfig = field(default_factory=OutputConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    cores: int
    """Of a worker."""
    decoders: int
    """Decoding processes of a worker."""

    def open_input(self) -> Input:
        """Raises InputError, PlaceError or PluginError."""
        return open_input(self.source, self.kind, self.column, self.id_column)

    def open_output(self) -> Place:
        """Raises PlaceError."""
        return Place.of(self.output)

    def settle(self) -> Job:
        """The job of the output folder: the one it holds, if it is this, or a new one.

        Raises ExportError when the folder holds another, InputError for an input that cannot be
        listed, PlaceError, BundleError, PluginError or EngineUnavailableError.
        """
        FORMATS.load(self.outputs.format)  # fails now, not after a plan, when a library is missing
        source, output = self.open_input(), self.open_output()
        if source.modality == "text" and self.outputs.patches:
            raise ExportError("patch: texts have no patches")
        manifest = open_bundle(self.bundle).manifest
        runtime = ENGINES.load(self.engine.name).describe(self.engine)
        before = output.names()  # listed first: another worker may write the job meanwhile
        found = Job.load(output)
        if found is None:
            _refuse_foreign(output, before)
        if found is None or not output.at(PLAN).exists():
            totals = write_plan(source, output, self.outputs.rows)
        else:
            totals = known_totals(source, output) or totals_of(source, self.outputs.rows)
        job = Job(
            modality=source.modality,
            column=self.column,
            id_column=self.id_column,
            outputs=self.outputs,
            model=f"{manifest.name}/{manifest.version}",
            bundle=manifest.digest,
            runtime=runtime,
            entries=totals.entries,
            plan=totals.digest,
        )
        if found is None:
            job.save(output)
        else:
            found.refuse_other(job)
        return job


def _refuse_foreign(output: Place, names: Sequence[str]) -> None:
    """Raises ExportError when a folder without a job holds anything but the plan and the drafts
    that an export leaves which was killed before it wrote its job."""
    foreign = [name for name in names if name != PLAN and not is_draft(name)]
    if PLAN in names:
        inside = output.at(PLAN).names()
        foreign += [f"{PLAN}/{x}" for x in inside if not (is_plan_file(x) or is_draft(x))]
    if foreign:
        raise ExportError(
            f"{output.path}: not empty and not an export: it holds {foreign[0]!r}. "
            "Choose a new or an empty folder"
        )
