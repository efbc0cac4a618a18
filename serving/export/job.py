"""What an export is: its settings, and everything else that decides its bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from bundle.manifest import Framing
from bundle.schema import NumberRange, SchemaError, from_dict
from serving.export.bounds import MAX_BATCH, MAX_ROWS, MAX_TOP
from serving.export.formats import FORMATS
from serving.export.inputs.base import Modality
from serving.storage.location import Location

JOB = "job.json"
LAYOUT = 2
"""How the files of an export lie and what they hold; another number is another version's."""


OF_A_GENERATION = frozenset({"entries", "plan", "generation", "first_shard", "before", "ended"})
"""Fields of a job that differ from one generation of an export to the next."""

OPTIONS = {
    "modality": "what INPUT holds",
    "column": "--column",
    "id_column": "--id-column",
    "prefix": "--prefix",
    "outputs.sparse": "--sparse",
    "outputs.top": "--top",
    "outputs.dense": "--dense",
    "outputs.framing": "--framing",
    "outputs.refuse_long_texts": "--refuse-long-texts",
    "outputs.patches": "--patch",
    "outputs.format": "--format",
    "outputs.rows": "--rows",
    "outputs.batch": "--batch",
    "model": "the model of --bundle",
    "bundle": "the sha256 of --bundle",
    "runtime": "the engine (--engine, --precision, --device)",
    "resizer": "what resizes images",
    "decoder": "--decoder",
    "layout": "the layout",
}
"""What a user gives to `sparseclip export` for each setting of a job."""


class ExportError(RuntimeError):
    """An export that cannot go on; the message says why and what to do."""


class DamagedJobError(ExportError):
    """A job that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is kept of a row, and how rows are cut into files."""

    sparse: bool = True
    """Keep the codes."""
    top: Annotated[int, NumberRange(0, MAX_TOP)] = 10
    """How many of the strongest concepts to keep with their names; 0 leaves the column out."""
    dense: bool = False
    """Keep the dense vector, which a bundle offers when images and texts share it."""
    framing: Framing | None = None
    """How an image becomes square: one of the bundle's framings; None takes the model's own."""
    refuse_long_texts: bool = False
    """Whether a text of more tokens than the model reads goes into quarantine. Else it is cut."""
    patches: tuple[int, ...] = ()
    """Concepts, ascending, whose codes on every patch of an image are kept."""
    format: Annotated[str, FORMATS] = FORMATS.names[0]
    """The format of the data files."""
    rows: Annotated[int, NumberRange(1, MAX_ROWS)] = 4096
    """Entries of a shard."""
    batch: Annotated[int, NumberRange(1, MAX_BATCH)] = 32
    """Rows of one run of the model. Other batches may differ in the last bit of a value."""


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything that decides the bytes of an export, or of one of its updates, as `job.json` keeps
    it."""

    layout: int = 1
    modality: Modality
    column: str = ""
    id_column: str = ""
    prefix: str = ""
    """What each id begins with."""
    outputs: OutputConfig = field(default_factory=OutputConfig)
    model: str
    """Name and version."""
    bundle: str
    """sha256 of the bundle's manifest, which holds the sha256 of all its files."""
    runtime: str
    """Library, version and device of the engine."""
    resizer: str = ""
    """Package and version that resize images; empty for texts."""
    decoder: str = "pillow"
    """What decodes JPEGs, and its version."""
    entries: int
    """Entries of this generation's plan."""
    plan: str
    """Digest of the plan: ids, sources and fingerprints of its entries."""
    generation: int = 0
    """0 for the first export of a collection, then 1 more for each update."""
    first_shard: int = 0
    """Shards of all generations before."""
    before: str = ""
    """Digest of the job of the generation before."""
    ended: str = ""
    """sha256 of the file of rows that this generation ended; empty when it ended none."""

    @property
    def digest(self) -> str:
        """sha256 of the JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def shards(self) -> int:
        """Shards of this generation."""
        return -(-self.entries // self.outputs.rows)

    def to_json(self) -> bytes:
        """Equal jobs give equal bytes."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def load(cls, folder: Location) -> ExportJob | None:
        """The job in a folder; None when there is none. Raises ExportError."""
        file = folder.at(JOB)
        if not file.exists():
            return None
        try:
            job = from_dict(cls, json.loads(file.read()), at="")
        except (ValueError, SchemaError) as error:
            raise DamagedJobError(f"{JOB}: not of an export: {error}") from None
        if job.layout != LAYOUT:
            raise ExportError(
                f"{JOB}: of another version of sparseclip (layout {job.layout}, not {LAYOUT}). "
                "Export to a new folder"
            )
        return job

    def refuse_other(self, requested: ExportJob) -> None:
        """Raises ExportError, naming what differs, unless `requested` has the same settings, model
        and engine."""
        before, now = settings_of(self), settings_of(requested)
        differences = [
            f"{OPTIONS[name]} was {_shown(before[name])} and is {_shown(now[name])}"
            for name in before
            if before[name] != now[name]
        ]
        if differences:
            raise ExportError(
                f"the output holds another export: {'; '.join(differences)}. "
                "Choose another output, or give what it was begun with"
            )


def settings_of(job: ExportJob) -> dict[str, Any]:
    """The fields that all generations of an export share, by their dotted names."""
    flat = _flat(dataclasses.asdict(job))
    return {name: value for name, value in flat.items() if name not in OF_A_GENERATION}


def _shown(value: object) -> str:
    """A setting as a user gives it."""
    if value is True or value is False:
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "not given" if value in (None, "") else str(value)


def _flat(data: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{at}{name}.")
        else:
            flat[f"{at}{name}"] = value
    return flat
