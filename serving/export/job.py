"""What an export is: its settings, and everything else that decides its bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from bundle.manifest import Framing
from bundle.schema import SchemaError, from_dict
from serving.export.bounds import MAX_BATCH, MAX_ROWS, MAX_TOP
from serving.export.formats import FORMATS
from serving.export.inputs.base import Modality
from serving.storage.location import Location

JOB = "job.json"


class ExportError(RuntimeError):
    """An export that cannot go on; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is kept of a row, and how rows are cut into files."""

    sparse: bool = True
    """Keep the codes."""
    top: int = 10
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
    rows: int = 4096
    """Entries of a shard."""
    batch: int = 32
    """Rows of one run of the model. Other batches may differ in the last bit of a value."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("top", 0, MAX_TOP),
            ("rows", 1, MAX_ROWS),
            ("batch", 1, MAX_BATCH),
        ):
            if not low <= getattr(self, name) <= high:
                raise ExportError(f"{name}: must be {low:,} to {high:,}")


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Everything that decides an export's bytes, as `job.json` keeps it."""

    modality: Modality
    column: str = ""
    id_column: str = ""
    outputs: OutputConfig = field(default_factory=OutputConfig)
    model: str
    """Name and version."""
    bundle: str
    """sha256 of the bundle's manifest, which holds the sha256 of all its files."""
    runtime: str
    """Library, version and device of the engine."""
    entries: int
    plan: str
    """Digest of the plan: ids, sources and fingerprints of all entries."""

    @property
    def digest(self) -> str:
        """sha256 of the JSON."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Equal jobs give equal bytes."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    def save(self, output: Location) -> None:
        """Writes it into the export's folder."""
        output.at(JOB).write(self.to_json())

    @classmethod
    def load(cls, output: Location) -> ExportJob | None:
        """The job of an export's folder; None when there is none. Raises ExportError."""
        file = output.at(JOB)
        if not file.exists():
            return None
        try:
            return from_dict(cls, json.loads(file.read()), at="")
        except (ValueError, SchemaError) as error:
            raise ExportError(f"{JOB}: not of an export: {error}") from None

    def refuse_other(self, requested: ExportJob) -> None:
        """Raises ExportError, naming what differs, unless `requested` is this very job."""
        before, now = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(requested))
        names = [name for name in before if before[name] != now[name] and name != "plan"]
        if not names and self.plan == requested.plan:
            return
        differences = [f"{name} was {before[name]!r} and is {now[name]!r}" for name in names]
        if "entries" not in names and self.plan != requested.plan:
            differences.append("files of the input have changed")
        raise ExportError(
            f"the output holds another export: {'; '.join(differences)}. "
            "Choose another output, or give what it was begun with"
        )


def _flat(data: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Nested fields by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{at}{name}.")
        else:
            flat[f"{at}{name}"] = value
    return flat
