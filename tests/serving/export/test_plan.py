"""The plan: every shard is read alone, and a change of the input changes its digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from serving.export.inputs.base import Content, InputEntry, LeftOut
from serving.export.job import ExportError, ExportJob, OutputConfig
from serving.export.plan import (
    PLAN,
    SHARDS_PER_FILE,
    ExportPlan,
    digest_entries,
    is_plan_file,
    list_entries,
    read_listing,
    write_plan,
)
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
    summary = write_plan(source, output, ROWS)
    assert summary == list_entries(source, ROWS)
    files = sorted(path.name for path in (tmp_path / PLAN).iterdir())
    assert files == ["made.json", *(f"part-{number:06d}.parquet" for number in range(3))]
    assert all(map(is_plan_file, files))
    plan = ExportPlan.open(output, job(summary.entries, summary.digest))
    assert plan.shards == 2 * SHARDS_PER_FILE + 1
    entries = list(source.entries(LeftOut()))
    for number in (0, 1, SHARDS_PER_FILE - 1, SHARDS_PER_FILE, plan.shards - 1):
        assert plan.shard(number).entries == entries[number * ROWS : (number + 1) * ROWS]
    (tmp_path / PLAN / files[2]).write_bytes(b"damaged")
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


def test_an_input_of_the_same_files_is_not_listed_again(tmp_path: Path) -> None:
    output = Location.parse(str(tmp_path))
    source = Numbers(7, {"a.tar": "1", "b.tar": "1"})
    summary = write_plan(source, output, ROWS)
    assert source.listed == 1
    assert read_listing(source, output) == summary
    assert read_listing(Numbers(7, {"a.tar": "1", "b.tar": "2"}), output) is None
    assert read_listing(Numbers(7, {"a.tar": "1"}), output) is None
    assert source.listed == 1
    (tmp_path / PLAN / "made.json").write_text("{}")
    assert read_listing(source, output) is None


def test_where_each_entry_is_a_file_the_input_is_listed_every_time(tmp_path: Path) -> None:
    output = Location.parse(str(tmp_path))
    write_plan(Numbers(7), output, ROWS)
    assert read_listing(Numbers(7), output) is None
