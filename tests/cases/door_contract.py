"""What a door takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparseclip import Classifier, Client
from sparseclip.results import Coverage


@dataclass(frozen=True, kw_only=True)
class DoorAnswer:
    """What came out for one case."""

    error: str = ""
    """The code and the message of a refusal; empty when the case was answered."""
    values: Mapping[int | str, float] = field(default_factory=dict)
    """Activations by concept, or scores by label: all of them, or the strongest. Of a dense model,
    the values of the vector by their position."""
    coverage: Coverage | None = None
    """What was read; None where the door does not say."""


@dataclass(frozen=True, kw_only=True)
class OpenDoors:
    """A running server and what the doors need to reach it."""

    address: str
    client: Client
    folder: Path
    classifier: Classifier
    bundle: Path


Answers = Sequence[DoorAnswer | None]
"""None for a case that cannot be brought to the door."""
ImageDoor = Callable[[OpenDoors, Sequence[bytes]], Answers]
TextDoor = Callable[[OpenDoors, Sequence[object]], Answers]


def output_values(
    indices: Iterable[int] | None, values: Iterable[float] | None, dense: Iterable[float] | None
) -> dict[int | str, float]:
    """DoorAnswer.values: a code, or a dense vector where there is no code."""
    code: dict[int | str, float] = dict(zip(indices or (), values or (), strict=True))
    return code or dict(enumerate([] if dense is None else dense))
