"""Pairs of every kind of source: what is good, what is bad and why, and that nothing is lost."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image
from pyarrow import feather, parquet

from bundle.preprocessor import Preprocessor
from tests.cases.damaged_pairs import (
    DAMAGED,
    A,
    B,
    Write,
    cut_shard,
    shard,
    write_lines,
    write_rows,
)
from tests.cases.pairs import (
    BLANK,
    CASES,
    EMPTY,
    NO_CAPTION,
    PNG,
    WRITERS,
    WrittenPair,
    case_writers,
    encoded,
    image_table,
    write_csv,
    write_saved,
    write_stream,
    write_tar,
)
from tests.support.paths import ICONS
from tests.training.conftest import tiny_recipe
from training.cli.data import data
from training.data.data_recipe import DataError
from training.loading.inspection import PairInspector, SplitReport
from training.loading.pair_data import ALL, PairData
from training.loading.sources import PAIR_SOURCES
from training.loading.sources.base import Columns
from training.loading.stream import PairStream, random_crop, stream_batches
from training.loading.tally import PairTally
from training.model.pixels import preprocessing
from training.model.tokenizer import CaptionTokenizer
from training.trainer.loop import train

LIMIT_S = 60
"""A test that takes longer hangs."""


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.of_size(600, 12)


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
    with pytest.raises(DataError, match=r"several kinds \(.*1 \.tar.*set data\.kind to one of web"):
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
        if kind == "huggingface":
            left_out = {}
        assert look(tmp_path / kind, tokenizer).left_out == left_out


@pytest.mark.kind("K2")
def test_splits(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name in ("train", "test"):
        write_tar(own / name / "0.tar", shard(A))
        write_saved(tmp_path / name, image_table([A]))
    assert PairData(own).splits == ["train", "test"]
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert PairData(tmp_path).splits == ["test", "train"]
    assert len(list(PairData(tmp_path).split("test").read_all())) == 1
    with pytest.raises(DataError, match=r"^data\.split: own has no split 'tset' \(did you mean"):
        PairData(own).split("tset")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../x"]}')
    with pytest.raises(DataError, match=r"names no splits"):
        PairData(tmp_path)


@pytest.mark.kind("K2")
def test_data_without_splits_hold_out_images_by_their_content(tmp_path: Path) -> None:
    pairs = [WrittenPair(name=f"{i}", image=encoded(colour=f"#{i:06x}")) for i in range(200)]
    write_tar(tmp_path / "a" / "0.tar", shard(*pairs))
    write_tar(tmp_path / "b" / "0.tar", shard(*reversed(pairs)))
    held_out = []
    for name in "ab":
        sides = {
            split: {found.image for found in PairData(tmp_path / name).split(split).read_all()}  # type: ignore[union-attr]
            for split in ("train", "held_out", "all")
        }
        assert sides["train"] | sides["held_out"] == sides["all"]
        assert not sides["train"] & sides["held_out"]
        held_out.append(sides["held_out"])
    assert held_out[0] == held_out[1]
    assert 3 <= len(held_out[0]) <= 20


@pytest.mark.kind("K2")
def test_a_built_data_set_streams_its_split_alone() -> None:
    built = PairData(ICONS)
    images = {
        split: [found.image for found in built.split(split).read_all()]  # type: ignore[union-attr]
        for split in ("train", "test_style")
    }
    assert len(images["train"]) == 38
    assert not set(images["train"]) & set(images["test_style"])


@pytest.mark.kind("K7")
def test_a_transparent_image_is_learned_as_it_is_served(tmp_path: Path) -> None:
    """What is hidden under transparent pixels is not seen, and the ground is that of serving."""
    views = []
    for hidden in ("#000000", "#ffffff", "#ff0000"):
        image = Image.new("RGBA", (16, 16), f"{hidden}00")
        image.paste((220, 60, 40, 255), (4, 4, 12, 12))
        views.append(random_crop(image, 16, random.Random(1)))
    assert all(torch.equal(view, views[0]) for view in views)
    served = Preprocessor(preprocessing(16))(image)
    assert torch.equal(views[0][:, 0, 0], torch.from_numpy(served)[:, 0, 0])
    assert torch.equal(views[0][:, 8, 8], torch.from_numpy(served)[:, 8, 8])


RUNS: dict[str, tuple[Write, str]] = {
    "two pairs, as many workers": (lambda f: write_tar(f / "0.tar", shard(A, B)), ""),
    "all blank": (
        lambda f: WRITERS["webdataset"].write(f, CASES["all bad"]),
        r"no good pair: 0 good, 3 bad \(the caption is blank: 3\)$",
    ),
    "no pairs": (lambda f: write_tar(f / "0.tar", []), "holds no pairs"),
    "no bytes": (lambda f: (f / "0.tar").touch(), "holds no pairs"),
    "a cut shard": (lambda f: cut_shard(f, 0.75), ""),
    "a key again": (lambda f: write_tar(f / "0.tar", shard(A, A, B)), ""),
}


@pytest.mark.kind("K3")
@pytest.mark.parametrize("case", RUNS)
def test_a_run_goes_on_or_ends_in_one_line(case: str, tmp_path: Path) -> None:
    write, problem = RUNS[case]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    recipe = tiny_recipe(
        data={"path": str(tmp_path / "data"), "split": ALL, "workers": 2},
        loop={"batch_size": 2, "epochs": 4},
    )
    with no_hang():
        if problem:
            with pytest.raises(DataError, match=problem):
                train(recipe, tmp_path / "run", 3)
        else:
            assert train(recipe, tmp_path / "run", 3).name == "step-00000003"


@pytest.mark.kind("K2")
def test_a_look_before_a_run(tmp_path: Path) -> None:
    folder, recipe = tmp_path / "data", tmp_path / "tiny.yaml"
    folder.mkdir()
    recipe.write_text(yaml.safe_dump(tiny_recipe().to_dict()))
    WRITERS["webdataset"].write(folder, CASES["empty caption"])
    (folder / "1.tar").write_bytes(b"")
    command = ["inspect", str(folder), "--recipe", str(recipe)]
    done = CliRunner().invoke(data, [*command, "--json"])
    assert done.exit_code == 0, done.output
    [split] = json.loads(done.stdout)["splits"]
    assert (split["found"], split["good"], split["bad"]) == (3, 2, 1)
    assert split["bad_pairs"] == [{"key": "0.tar/bad", "reason": BLANK}]
    assert split["damaged"] == {"1.tar": "empty"}
    assert (split["repeated_images"], split["distinct_captions"], split["cut_captions"]) == (
        1,
        1,
        0,
    )
    table = CliRunner().invoke(data, command)
    assert "0.tar/bad: the caption is blank" in table.output
    (folder / "0.tar").unlink()
    none = CliRunner().invoke(data, command)
    assert none.exit_code == 1
    assert none.output.endswith("holds no good pair\n")
