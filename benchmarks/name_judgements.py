"""The names on a sheet (benchmarks/name_sheet.py), which of them a person accepted, and the shares.

An answer file has a line for each picture, with the numbers of the names that are accepted:

    1: 2 3 7
    2:
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.schema import from_dict
from training.evaluation.metrics import rate
from training.evaluation.name_trials import parts_of

RULE = (
    "A name is accepted if it tells somebody who sees the picture what it shows, a part of it that "
    "can be seen, the kind of thing that it is, or what happens in it. A name with a word in "
    "brackets is accepted if both are so. What only looks alike, or goes with it, is not accepted."
)
COLUMNS = ("picture", "concept", "accepted", "judge", "rule")
_ANSWER = re.compile(r"(\d+):((?: +\d+)*) *")

Verdicts = Mapping[tuple[int, int], bool]
"""By picture and concept: whether the name is accepted."""


Accepts = Callable[["JudgedPicture", "ListedName"], bool]


class JudgementError(ValueError):
    """Answers that do not fit the sheet; the message names the line or the picture."""


@dataclass(frozen=True, kw_only=True)
class ListedName:
    """A name beside a picture."""

    concept: int
    name: str
    cosine: float
    """Of the name's and the caption's sentence embeddings."""
    rank: int
    """1 to 5 for the picture's own concepts, the strongest first; 0 for another picture's concept,
    which is there as a control."""


@dataclass(frozen=True, kw_only=True)
class JudgedPicture:
    """A picture of the sheet."""

    picture: int
    """Its number on the sheet, from 1."""
    key: str
    """Its key in the split."""
    caption: str
    words: tuple[str, ...]
    """The single words of its caption and keywords."""
    names: tuple[ListedName, ...]
    """As they are numbered on the sheet, from 1: own and controls in random order. A concept
    without a name is left out."""


@dataclass(frozen=True, kw_only=True)
class NameSheet:
    """What is on a sheet."""

    model: str
    split: str
    seed: int
    shown: int
    """How many of a picture's concepts count, named or not."""
    encoder: str
    """The sentence encoder; its name says if the model's text tower stands on it."""
    threshold: float
    """A name is near its caption from this cosine on: 5% of random names are, on validation."""
    pictures: tuple[JudgedPicture, ...]

    @classmethod
    def read(cls, path: Path) -> NameSheet:
        """Reads the sheet. Raises SchemaError."""
        return from_dict(cls, json.loads(path.read_text(encoding="utf-8")), at="")

    def write(self, path: Path) -> None:
        """Writes the sheet as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def lines(self) -> Iterator[str]:
        """The names by picture, numbered as in the picture of the sheet, for the judge."""
        for picture in self.pictures:
            names = (f"{n} {entry.name}" for n, entry in enumerate(picture.names, 1))
            yield f"{picture.picture}: {' | '.join(names)}"


def read_answers(sheet: NameSheet, text: str) -> Verdicts:
    """The verdicts of an answer file. Raises JudgementError unless it has each picture once."""
    accepted: dict[int, set[int]] = {}
    counts = {picture.picture: len(picture.names) for picture in sheet.pictures}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _ANSWER.fullmatch(line)
        if match is None:
            raise JudgementError(f"line {number}: must be like `12: 1 4`")
        picture, chosen = int(match[1]), set(map(int, match[2].split()))
        if picture not in counts or picture in accepted:
            raise JudgementError(f"line {number}: no such picture, or for the second time")
        if wrong := chosen - set(range(1, counts[picture] + 1)):
            raise JudgementError(f"line {number}: picture {picture} has no name {min(wrong)}")
        accepted[picture] = chosen
    if missing := counts.keys() - accepted:
        raise JudgementError(f"picture {min(missing)}: no line")
    return {
        (picture.picture, entry.concept): number in accepted[picture.picture]
        for picture in sheet.pictures
        for number, entry in enumerate(picture.names, 1)
    }


def write_verdicts(path: Path, verdicts: Verdicts, judge: str) -> None:
    """Writes a CSV with a row for each name of each picture."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (picture, concept), accepted in verdicts.items():
            writer.writerow((picture, concept, int(accepted), judge, RULE))


def read_verdicts(sheet: NameSheet, path: Path) -> Verdicts:
    """Reads the CSV. Raises JudgementError unless it has each name of each picture once."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = {(int(r["picture"]), int(r["concept"])): r["accepted"] == "1" for r in rows}
    expected = {(p.picture, entry.concept) for p in sheet.pictures for entry in p.names}
    if len(rows) != len(verdicts) or verdicts.keys() != expected:
        raise JudgementError(f"{path.name}: is not of this sheet")
    return verdicts


def shares(sheet: NameSheet, verdicts: Verdicts | None) -> dict[str, Any]:
    """The shares accepted, by a judge if there are verdicts and by the automatic measures.

    Of the five strongest concepts of a picture, one without a name counts as not accepted.
    Standard errors are clustered by picture.
    """
    measures: dict[str, Accepts] = {
        "a word of the caption or keywords": shares_a_word,
        "near the caption": lambda _, entry: entry.cosine >= sheet.threshold,
        "either": lambda p, entry: shares_a_word(p, entry) or entry.cosine >= sheet.threshold,
    }
    if verdicts is not None:
        measures["judge"] = lambda p, entry: verdicts[p.picture, entry.concept]
    listed = [(p, entry) for p in sheet.pictures for entry in p.names]
    own = [(p, entry) for p, entry in listed if entry.rank]
    nameless = [p.key for p in sheet.pictures for _ in range(sheet.shown - _count_own(p))]
    result: dict[str, Any] = {"pictures": len(sheet.pictures), "without a name": len(nameless)}
    for name, accepts in measures.items():
        hits = [(p.key, bool(accepts(p, entry))) for p, entry in own]
        result[name] = {
            f"of the {sheet.shown} strongest": _share([*hits, *((key, False) for key in nameless)]),
            "of their names": _share(hits),
            "of the strongest one's name": _share(
                [(p.key, bool(accepts(p, entry))) for p, entry in own if entry.rank == 1]
            ),
            "of control names": _share(
                [(p.key, bool(accepts(p, entry))) for p, entry in listed if not entry.rank]
            ),
        }
    return result


def shares_a_word(picture: JudgedPicture, entry: ListedName) -> bool:
    """Whether a name shares a word with the picture's caption or keywords."""
    return not set(parts_of(entry.name)).isdisjoint(picture.words)


def _count_own(picture: JudgedPicture) -> int:
    return sum(entry.rank > 0 for entry in picture.names)


def _share(hits: Sequence[tuple[str, bool]]) -> dict[str, float] | None:
    if not hits:
        return None
    found = rate(np.array([hit for _, hit in hits]), [key for key, _ in hits])
    return {"percent": round(found.percent, 1), "error": round(found.error, 1), "names": len(hits)}
