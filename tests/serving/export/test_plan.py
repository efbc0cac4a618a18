"""The plan: every shard is read alone, and a change of the input changes its digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from serving.export.inputs.base import Content, InputEntry
from serving.export.job import ExportError, ExportJob, OutputConfig
from serving.export.plan import (
    PLAN,
    SHARDS_PER_FILE,
    ExportPlan,
    InputListing,
    digest_entries,
    digest_files,
    is_plan_file,
    sum_up_plan,
    write_plan,
)
from serving.storage.left_out import LeftOut
from serving.storage.location import Location

ROWS = 3
COUNT = ROWS * (2 * SHARDS_PER_FILE + 1) - 1
"""Three files of a plan, the last one with one shard that is not full."""


class Numbers:
    """Entries that are numbers; those of `files` change with them."""

    modality = "text"

    def __init__(self, count: int, files: dict[str, str] | None = None) -> None:
        self.count, self.files, self.listed = count, files or {}, 0

    def entries(self, left_out: LeftOut) -> Iterator[InputEntry]:
        self.listed += 1
        for number in range(self.count):
            yield InputEntry(f"id {number}", f"source {number}", "1")

    def read(self, entries: Sequence[InputEntry]) -> Iterator[Content]:
        return map(str, entries)


def job(entries: int, digest: str) -> ExportJob:
    return ExportJob(
        modality="text",
        outputs=OutputConfig(rows=ROWS),
        model="m/1",
        bundle="b",
        runtime="r",
        entries=entries,
        plan=digest,
    )


def test_every_shard_is_read_alone(tmp_path: Path) -> None:
    output, source = Location.parse(str(tmp_path)), Numbers(COUNT)
    summary = write_plan(source.entries(LeftOut()), output, ROWS)
    assert summary == sum_up_plan(output)
    files = sorted(path.name for path in (tmp_path / PLAN).iterdir())
    assert files == [f"part-{number:06d}.parquet" for number in range(3)]
    assert all(map(is_plan_file, files))
    plan = ExportPlan(folder=output.at(PLAN), job=job(summary.entries, summary.digest))
    assert plan.numbers == range(2 * SHARDS_PER_FILE + 1)
    entries = list(source.entries(LeftOut()))
    for number in (0, 1, SHARDS_PER_FILE - 1, SHARDS_PER_FILE, plan.numbers[-1]):
        assert plan.shard(number).entries == entries[number * ROWS : (number + 1) * ROWS]
    (tmp_path / PLAN / files[1]).write_bytes(b"damaged")
    assert plan.shard(0).entries == entries[:ROWS]
    with pytest.raises(ExportError, match=r"plan/part-000001\.parquet: missing or damaged"):
        plan.shard(SHARDS_PER_FILE)


def test_any_difference_of_an_entry_changes_the_digest() -> None:
    entries = list(Numbers(5).entries(LeftOut()))
    changes = [
        {"id": "x"},
        {"source": "x"},
        {"fingerprint": "2"},
        {"id": "id 0source 0", "source": ""},  # the same texts, cut elsewhere
    ]
    others = [[entries[0]._replace(**change), *entries[1:]] for change in changes]
    assert len({digest_entries(each) for each in [entries, *others, entries[::-1]]}) == 6


def test_the_names_of_an_updates_shards_go_on(tmp_path: Path) -> None:
    folder, source = Location.parse(str(tmp_path)), Numbers(7)
    summary = write_plan(source.entries(LeftOut()), folder, ROWS)
    update = replace(job(*summary), generation=1, first_shard=5, before="x")
    plan = ExportPlan(folder=folder.at(PLAN), job=update)
    assert plan.numbers == range(5, 8)
    assert plan.shard(7).entries == list(source.entries(LeftOut()))[6:]
    assert plan.shard(7).generation == 1


def test_a_listing_that_was_altered_is_none(tmp_path: Path) -> None:
    folder = Location.parse(str(tmp_path))
    InputListing(files="f", entries=7, left_out={".txt": 1}).save(folder)
    listing = InputListing.load(folder)
    assert listing is not None
    assert (listing.files, listing.left_out) == ("f", {".txt": 1})
    file = tmp_path / PLAN / "made.json"
    file.write_text(file.read_text().replace("7", "8"))
    assert InputListing.load(folder) is None
    file.write_text("{}")
    assert InputListing.load(folder) is None


def test_files_of_many_entries_have_one_digest() -> None:
    one = digest_files(Numbers(7, {"a.tar": "1", "b.tar": "1"}))
    assert one == digest_files(Numbers(9, {"a.tar": "1", "b.tar": "1"}))
    assert one != digest_files(Numbers(7, {"a.tar": "1", "b.tar": "2"}))
    assert digest_files(Numbers(7)) == ""
