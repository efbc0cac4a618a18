"""Pairs of every kind of source: what is good, what is bad and why, and that nothing is lost."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tests.cases.damage import A, B, Damage, Write, shard
from tests.cases.damaged_lists import LISTS, write_lines, write_rows
from tests.cases.damaged_shards import SHARDS, cut_shard
from tests.cases.damaged_tables import TABLES
from tests.cases.pairs import (
    BLANK,
    CASES,
    EMPTY,
    NO_CAPTION,
    PNG,
    WRITERS,
    case_writers,
    image_table,
    write_csv,
    write_saved,
    write_stream,
    write_tar,
)
from tests.support.no_hang import no_hang
from training.data.data_recipe import DataError
from training.loading.inspection import PairInspector, SplitReport
from training.loading.pair_data import ALL, PairData
from training.loading.sources import PAIR_SOURCES
from training.loading.sources.base import Columns
from training.loading.stream import PairStream, stream_batches
from training.loading.tally import PairTally
from training.model.tokenizer import CaptionTokenizer

DAMAGED: dict[str, Damage] = {**SHARDS, **LISTS, **TABLES}


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.of_size(600, 12)


def look(path: Path, tokenizer: CaptionTokenizer, **options: object) -> SplitReport:
    """The report on data, whose counts add up."""
    pairs = PairData(path, **options).split(ALL)  # type: ignore[arg-type]
    report = PairInspector(tokenizer.tokenize).inspect(pairs)
    assert report.found == report.good + report.bad
    assert report.lengths and len(report.lengths) == report.texts.total() or not report.good
    return report


def stream_once(path: Path, good: int, tokenizer: CaptionTokenizer) -> PairTally:
    """What a run counts in one pass over data that hold this many good pairs."""
    pairs = PairData(path).split(ALL)
    stream = PairStream(
        pairs,
        tokenizer,
        size=16,
        batch_size=1,
        seed=0,
        rank=0,
        ranks=1,
        shuffle=4,
        start=0,
        canonical=0.5,
        epoch_pairs=good,
    )
    tally = PairTally(path.name, len(pairs.pieces))
    batches = stream_batches(stream, 0, tally)
    if not good:
        with pytest.raises(DataError, match=r"^data\.path: \S+: no good pair: 0 good, \d+ bad"):
            next(batches)
        return tally
    # The pass ends before the first pair of the next one comes.
    assert len(list(islice(batches, good + 1))) == good + 1
    return tally


@pytest.mark.kind("K2")
def test_every_kind_of_source_has_a_writer() -> None:
    assert set(WRITERS) == set(PAIR_SOURCES.names)


def _promise(case: str) -> str:
    """The promise that a case tests: K6 for a caption that says nothing, K3 for what is bad, K2 for
    what is read."""
    reasons = {pair.reason for pair in CASES[case]}
    return "K6" if reasons & {BLANK, NO_CAPTION, EMPTY} else "K3" if reasons - {""} else "K2"


@pytest.mark.parametrize(
    ("case", "kind"),
    [pytest.param(*names, marks=pytest.mark.kind(_promise(names[0]))) for names in case_writers()],
)
def test_a_bad_pair_costs_itself(
    case: str, kind: str, tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    pairs, writer = CASES[case], WRITERS[kind]
    writer.write(tmp_path, pairs)
    report = look(tmp_path, tokenizer)
    assert PairData(tmp_path).kind == kind
    reasons = Counter(pair.reason for pair in pairs if pair.reason)
    assert report.reasons == reasons
    assert report.texts == Counter(text for pair in pairs for text in pair.read)
    assert report.damaged == {}
    assert PairData(tmp_path).split(ALL).pairs == len(pairs) == report.found
    with no_hang():
        tally = stream_once(tmp_path, report.good, tokenizer)
    assert set(tally.reasons) == set(reasons)
    assert tally.found == tally.good + tally.bad


@pytest.mark.kind("K3")
@pytest.mark.parametrize("case", DAMAGED)
def test_damage_costs_itself(case: str, tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    write, good, reasons, damaged = DAMAGED[case]
    write(tmp_path)
    with no_hang():
        report = look(tmp_path, tokenizer)
        assert PairData(tmp_path).kind == {"tar": "webdataset"}.get(
            case.partition(":")[0], case.partition(":")[0]
        )
        assert (report.good, dict(report.reasons), report.damaged) == (good, reasons, damaged)
        if report.found:
            tally = stream_once(tmp_path, good, tokenizer)
            assert (set(tally.reasons), tally.damaged) == (set(reasons), damaged)


@pytest.mark.kind("K3")
@pytest.mark.parametrize("kept", [i / 16 for i in range(17)])
def test_a_shard_may_be_cut_anywhere(
    kept: float, tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    cut_shard(tmp_path, kept)
    report = look(tmp_path, tokenizer)
    assert report.good >= 2
    assert (report.damaged != {}) is (kept < 1)


def _classes_column(folder: Path) -> None:
    table = image_table([A, B]).drop_columns("text").append_column("label", pa.array([1, 0]))
    names = {"label": {"names": ["cat", "sail_boat"], "_type": "ClassLabel"}}
    info = json.dumps({"info": {"features": {"image": {"_type": "Image"}} | names}})
    write_saved(folder, table.replace_schema_metadata({"huggingface": info}))


def _other_types(folder: Path) -> None:
    feather.write_feather(image_table([A]), str(folder / "a.feather"))
    texts = pa.array(["a dot"], pa.string_view())
    views = pa.table({"img": pa.array([PNG], pa.binary_view()), "Caption": texts})
    write_stream(folder / "b.arrow", views)
    dictionary = pa.array(["a cat"]).dictionary_encode()
    large = pa.table({"image": pa.array([PNG], pa.large_binary()), "text": dictionary})
    parquet.write_table(large, folder / "C.PARQUET")


def _paths_in_a_table(folder: Path) -> None:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(PNG)
    table = pa.table({"file_name": ["images/a.png", "../a.png"], "text": ["a", "b"]})
    parquet.write_table(table, folder / "metadata.parquet")


def _linked(folder: Path) -> None:
    (folder / "x" / "cat").mkdir(parents=True)
    (folder / "x" / "cat" / "a.png").write_bytes(PNG)
    (folder / "x" / "loop").symlink_to(folder / "x")
    (folder / "x" / "gone.png").symlink_to(folder / "nothing")
    (folder / "x" / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)


READ: dict[str, tuple[Write, dict[str, int]]] = {
    "classes of Hugging Face": (_classes_column, {"cat": 1, "sail boat": 1}),
    "types of columns": (_other_types, {"a red dot": 1, "a dot": 1, "a cat": 1}),
    "paths in a table": (_paths_in_a_table, {"a": 1}),
    "links and a name that is not UTF-8": (_linked, {"cat": 2}),
    "a list of captions in JSONL": (
        lambda f: write_lines(f, b'{"file_name": "a.png", "captions": ["a", "b"]}'),
        {"a": 1, "b": 1},
    ),
    "a cell of two lines": (
        lambda f: write_rows(f, [["id", "text", "path"], ["1", "a, b\nc", "a.png"]]),
        {"a, b\nc": 1},
    ),
}


@pytest.mark.kind("K2")
@pytest.mark.parametrize("case", READ)
def test_it_is_read(case: str, tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    write, texts = READ[case]
    write(tmp_path)
    assert look(tmp_path, tokenizer).texts == texts


@pytest.mark.kind("K2")
def test_a_single_file_is_data_too(tmp_path: Path, tokenizer: CaptionTokenizer) -> None:
    write_tar(tmp_path / "a.TAR", shard(A))
    parquet.write_table(image_table([A]), tmp_path / "a.parquet")
    (tmp_path / "x.png").write_bytes(PNG)
    write_csv(tmp_path / "a.csv", [["x.png", "without a header"]])
    for name in ("a.TAR", "a.parquet", "a.csv"):
        assert look(tmp_path / name, tokenizer).good == 1
    with pytest.raises(DataError, match=r"several kinds \(webdataset, table, images\); set"):
        PairData(tmp_path).split(ALL)
    assert look(tmp_path, tokenizer, kind="webdataset").good == 1
    with pytest.raises(DataError, match=r"^data\.path: x\.png ends in none of \.tar"):
        PairData(tmp_path / "x.png").split(ALL)


@pytest.mark.kind("K2")
def test_columns_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": ["x"], "b": ["y"]}), tmp_path / "0.parquet")
    for options, problem in (
        ({}, r"^data\.image_column: name a column of 0\.parquet, which has a, b$"),
        ({"image": "aa"}, r"^data\.image_column: 0\.parquet has no column 'aa' \(did you mean 'a'"),
        ({"image": "a"}, r"^data\.caption_column: name a column"),
    ):
        with pytest.raises(DataError, match=problem):
            PairData(tmp_path, columns=Columns(**options)).split(ALL)
    assert PairData(tmp_path, columns=Columns(image="a", caption="b")).split(ALL).pairs == 1
    write_csv(tmp_path / "a.csv", [["x", "y"], ["1", "2"]])
    with pytest.raises(DataError, match=r"^data\.image_column: name a column of a\.csv, which has"):
        PairData(tmp_path / "a.csv").split(ALL)
    write_csv(tmp_path / "a.csv", [["x" * 400, "a long first cell"], ["a.png", "a"]])
    with pytest.raises(
        DataError, match=r"^data\.image_column: name a column of a\.csv, which has x"
    ):
        PairData(tmp_path / "a.csv").split(ALL)
    for name, row in (("a.csv", "file_name,text\n"), ("a.jsonl", "{}\n")):
        (tmp_path / name).write_bytes(row.encode("utf-16"))
        with pytest.raises(DataError, match=rf"^data\.path: {name} is UTF-16; save it as UTF-8$"):
            PairData(tmp_path / name).split(ALL)


@pytest.mark.kind("K2")
@pytest.mark.parametrize("name", ["image", "text"])
def test_a_column_that_is_there_twice_is_one_line(name: str, tmp_path: Path) -> None:
    columns = pa.array([PNG]), pa.array(["a"])
    table = pa.table([*columns, columns[name == "text"]], names=["image", "text", name])
    parquet.write_table(table, tmp_path / "0.parquet")
    write_stream(tmp_path / "0.arrow", table)
    write_csv(tmp_path / "0.csv", [table.column_names, ["a.png", "a", "b"]])
    field = {"image": "image", "text": "caption"}[name]
    for file in ("0.parquet", "0.arrow", "0.csv"):
        with pytest.raises(
            DataError, match=rf"^data\.{field}_column: {file} has 2 columns '{name}'$"
        ):
            PairData(tmp_path / file).split(ALL)


@pytest.mark.kind("K2")
def test_files_that_belong_to_no_pair_are_counted(
    tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    for kind, writer in WRITERS.items():
        (tmp_path / kind).mkdir()
        writer.write(tmp_path / kind, [A])
        (tmp_path / kind / "notes.md").write_text("x")
        left_out = {".md": 1}
        if kind == "list":
            (tmp_path / kind / "x.png").write_bytes(PNG)
            left_out[".png"] = 1
        if kind == "files":  # a second image of a pair
            [image] = (tmp_path / kind).glob("*.png")
            image.with_suffix(".jpg").write_bytes(PNG)
            left_out[".png"] = 1
        if kind == "huggingface":
            left_out = {}
        assert look(tmp_path / kind, tokenizer).left_out == left_out


@pytest.mark.kind("K2")
def test_members_that_belong_to_no_pair_are_counted(
    tmp_path: Path, tokenizer: CaptionTokenizer
) -> None:
    beside = [("a.xml", b"x"), ("a.jpg", PNG), ("a.mask.png", PNG), ("._a.png", b"x")]
    write_tar(tmp_path / "0.tar", [*shard(A), ("notes.md", b"x"), *beside])
    write_tar(tmp_path / "1.tar", [*shard(A), ("LICENSE", b"x"), ("1.XML", b"x")])
    report = look(tmp_path, tokenizer)
    assert report.good == 2
    assert report.left_out == {".md": 1, ".xml": 2, ".jpg": 1, ".png": 1, "no ending": 1}
