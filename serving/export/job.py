"""What an export is: its settings, and all that decides its bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from bundle.schema import SchemaError, from_dict
from serving.export.formats import FORMATS
from serving.export.inputs.base import Modality
from serving.storage.location import Place

JOB = "job.json"


class ExportError(RuntimeError):
    """An export that cannot go on; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is kept of a row, and how rows are cut into files."""

    sparse: bool = True
    """The codes."""
    top: int = 10
    """Strongest concepts, with their names; 0 leaves the column out."""
    dense: bool = False
    """The dense vector."""
    patches: tuple[int, ...] = ()
    """Concepts, ascending, whose codes on every patch of an image are kept."""
    format: Annotated[str, FORMATS] = FORMATS.names[0]
    """The format of the data files."""
    rows: int = 4096
    """Entries of a shard."""
    batch: int = 32
    """Rows of one run of the model. Part of the job: other batches may differ in the last bit."""

    def __post_init__(self) -> None:
        for name, low in (("top", 0), ("rows", 1), ("batch", 1)):
            if getattr(self, name) < low:
                raise ExportError(f"{name}: must be {low} or more")


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides an export's bytes, as `job.json` keeps it."""

    modality: Modality
    column: str = ""
    id_column: str = ""
    outputs: OutputConfig = field(default_factory=OutputConfig)
    model: str
    """Name and version."""
    bundle: str
    """sha256 of the bundle's manifest, which holds those of all its files."""
    runtime: str
    """Library, version and device of the engine."""
    entries: int
    plan: str
    """Digest of the plan: ids, sources and stamps of all entries."""

    @property
    def digest(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """As JSON, one spelling."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True).encode()

    def save(self, output: Place) -> None:
        """Writes it into the export's folder."""
        output.at(JOB).write(self.to_json())

    @classmethod
    def load(cls, output: Place) -> Job | None:
        """The job of an export's folder; None when it has none. Raises ExportError."""
        place = output.at(JOB)
        if not place.exists():
            return None
        try:
            return from_dict(cls, json.loads(place.read()), at="")
        except (ValueError, SchemaError) as error:
            raise ExportError(f"{JOB}: not of an export: {error}") from None

    def refuse_other(self, wanted: Job) -> None:
        """Raises ExportError, naming what differs, unless `wanted` is this very job."""
        mine, other = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(wanted))
        names = [name for name in mine if mine[name] != other[name] and name != "plan"]
        if not names and self.plan == wanted.plan:
            return
        told = [f"{name} was {mine[name]!r} and is {other[name]!r}" for name in names]
        if "entries" not in names and self.plan != wanted.plan:
            told.append("files of the input have changed")
        raise ExportError(
            f"the output holds another export: {'; '.join(told)}. "
            "Choose another output, or give what it was begun with"
        )


def _flat(data: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{at}{name}.")
        else:
            found[f"{at}{name}"] = value
    return found
