"""Whatever a collection holds, each entry is a row, in quarantine with its reason, or counted."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow
import pyarrow.dataset as dataset
import pytest
from PIL import Image
from pyarrow import parquet

from serving.export.formats import FORMATS
from serving.export.inputs import INPUTS
from serving.export.inputs.base import InputEntry, InputError, Unreadable
from serving.export.inputs.detection import open_input
from serving.storage.left_out import LeftOut
from serving.storage.location import Location
from tests.cases.collection_files import image
from tests.cases.collections import CASES, WRITERS, WrittenInput
from tests.serving.export.command import options, run

pytestmark = pytest.mark.kind("K2")


class ExportedInput(NamedTuple):
    """An input, and what became of it."""

    written: WrittenInput
    rows: list[str]
    """Ids."""
    quarantine: dict[str, str]
    """Reasons by id."""
    printed: str
    done: dict[str, object]


@pytest.fixture(scope="module")
def exported(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ExportedInput]:
    """Each input with all cases, exported once."""
    found = {}
    for kind, write in WRITERS.items():
        folder = tmp_path_factory.mktemp("collections")
        written = write(folder / kind)
        output = folder / "codes"
        arguments = [*written.arguments, *options(tiny_bundle, rows=50)]
        printed = run(written.source, output, *arguments)
        quarantine = dataset.dataset(output / "quarantine").to_table().to_pylist()
        found[kind] = ExportedInput(
            written=written,
            rows=dataset.dataset(output / "data").to_table()["id"].to_pylist(),
            quarantine={row["id"]: row["reason"] for row in quarantine},
            printed=printed,
            done=json.loads((output / "DONE.json").read_text()),
        )
    return found


def test_every_input_has_a_writer_of_the_cases() -> None:
    assert set(WRITERS) == set(INPUTS.names)


@pytest.mark.parametrize("kind", INPUTS.names)
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.kind(case.kind), id=ascii(case.name)) for case in CASES],
)
def test_a_case_has_the_same_outcome_in_every_input(
    case: object, kind: str, exported: dict[str, ExportedInput]
) -> None:
    result = exported[kind]
    name, reason = case.name, case.reason  # type: ignore[attr-defined]
    id = result.written.ids.get(name)
    if id is None:
        assert (kind, "\n" in name) == ("list", True)
    elif reason:
        assert result.quarantine[id] == reason
    else:
        assert result.rows.count(id) == 1


@pytest.mark.parametrize("kind", INPUTS.names)
def test_what_is_found_is_a_row_or_in_quarantine_or_counted(
    kind: str, exported: dict[str, ExportedInput]
) -> None:
    result = exported[kind]
    outcome = result.written.outcome()
    if kind == "webdataset":  # where a compressed file breaks off is the library's affair
        [broken] = {id for id in result.quarantine if id.startswith("half.tgz:")}
        outcome[broken] = result.quarantine[broken]
        assert outcome[broken].endswith("cannot be decompressed")
    assert sorted(result.rows) == sorted(id for id, reason in outcome.items() if not reason)
    assert result.quarantine == {id: reason for id, reason in outcome.items() if reason}
    assert len(set(result.rows)) == len(result.rows)
    done = result.done
    assert done["left_out"] == result.written.left_out
    assert done["entries"] == len(result.rows) + len(result.quarantine)
    assert (done["rows"], done["quarantined"]) == (len(result.rows), len(result.quarantine))
    total = sum(result.written.left_out.values())
    assert (
        f"{len(result.rows)} rows, {len(result.quarantine)} in quarantine, {total} left out ("
        in result.printed
    )


class Listing(NamedTuple):
    """What an input lists and reads, without an export."""

    entries: list[InputEntry]
    contents: dict[str, object]
    """Bytes, texts, or reasons by id."""
    left_out: dict[str, int]


def listing(source: object, **columns: str) -> Listing:
    opened, left_out = open_input(str(source), **columns), LeftOut()
    entries = list(opened.entries(left_out))
    read = [entry for entry in entries if not entry.problem]
    contents: dict[str, object] = {entry.id: entry.problem for entry in entries}
    for entry, content in zip(read, opened.read(read), strict=True):
        contents[entry.id] = content.reason if isinstance(content, Unreadable) else content
    return Listing(entries, contents, dict(left_out))


@pytest.mark.kind("K7")
@pytest.mark.parametrize("kind", INPUTS.names)
def test_a_store_gives_what_a_folder_gives(kind: str, tmp_path: Path) -> None:
    """Links, FIFOs and names that are not UTF-8 are of a folder alone."""
    written = WRITERS[kind](tmp_path / kind)
    folder = written.source.parent if kind == "list" else written.source
    for path in [*folder.rglob("*")]:
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or "\udce9" in path.name:
            path.unlink()
    store = fsspec.filesystem("memory")
    store.put(str(folder), f"/{kind}", recursive=True)
    columns = {"column": "image", "id_column": "key"} if kind == "table" else {}
    there = f"memory://{kind}/list.txt" if kind == "list" else f"memory://{kind}"
    try:
        assert listing(there, **columns)[1:] == listing(written.source, **columns)[1:]
    finally:
        store.rm(f"/{kind}", recursive=True)


@pytest.mark.parametrize(
    ("stray", "told"),
    [
        ("backup.tar", "--kind folder: 2 .png, 1 .jpg; --kind webdataset: 1 .tar"),
        ("metadata.Parquet", "--kind folder: 2 .png, 1 .jpg; --kind table: 1 .parquet"),
    ],
)
def test_a_mix_is_refused_and_a_named_kind_is_taken(stray: str, told: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.PNG", "c.jpg", stray):
        (tmp_path / name).write_bytes(image(1))
    with pytest.raises(InputError, match="a mix of kinds") as refused:
        open_input(str(tmp_path))
    assert str(refused.value).endswith(told)
    assert listing(tmp_path, kind="folder").left_out == {f".{stray.lower().split('.')[1]}": 1}


@pytest.mark.kind("K2")
def test_nothing_to_export_is_no_success(tiny_bundle: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    arguments = [source, output, *options(tiny_bundle)]
    assert "nothing to export in INPUT; left out: nothing" in run(*arguments, code=3)
    (source / "notes.txt").write_text("x")
    assert "left out: 1 .txt" in run(*arguments, code=3)
    assert not list(output.glob("[!.]*"))  # a lock may stay
    assert "0 rows, 0 in quarantine, 1 left out (1 .txt)" in run(*arguments, "--allow-empty")
    shutil.rmtree(output)
    (source / "x.png").write_bytes(b"no image")
    assert "no row: every entry is in quarantine" in run(*arguments, code=3)
    (source / "y.png").write_bytes(image(1))
    shutil.rmtree(output)
    assert "1 in quarantine" in run(*arguments, "--strict", code=4)
    assert "1 rows, 1 in quarantine" in run(*arguments)


@pytest.mark.kind("K1")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["", "out"], 2, "must not be empty"),
        ([" ", "out"], 2, "must not be empty"),
        ([".", ""], 2, "must not be empty"),
        ([".", "memory://codes"], 1, "keeps nothing when the export ends"),
    ],
)
def test_an_input_or_an_output_that_is_none_is_refused(
    arguments: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in run(*arguments, code=code)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMATS.names)
def test_ids_of_any_name_are_kept_in_every_format(form: str, tmp_path: Path) -> None:
    ids = [case.id or case.name for case in CASES]
    columns = {"id": ids, "source": ids, "active": range(len(ids)), "norm": [0.5] * len(ids)}
    table = pyarrow.table(columns)
    data = Location.parse(str(tmp_path)).at("data")
    export_format = FORMATS.load(form)()
    written = export_format.files(table, "part-000000")
    for name, content in written.items():
        data.at(name).write(content)
    batches = export_format.read(data, list(written), ["id", "source"], 100)
    assert pyarrow.Table.from_batches(batches) == table.select(["id", "source"])


@pytest.mark.kind("K5")
def test_texts_say_what_was_read_of_them(tiny_bundle: Path, tmp_path: Path) -> None:
    """And an empty one is refused with the reason that it has everywhere."""
    texts = ["a dog", "dog " * 40, "", " \u200b\n", None, "a red star"]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet")
    arguments = [tmp_path / "t.parquet", "--column", "text", *options(tiny_bundle)]
    refused = "text: must not be empty"
    run(*arguments[:1], tmp_path / "cut", *arguments[1:])
    rows = dataset.dataset(tmp_path / "cut" / "data").to_table().to_pylist()
    assert [(row["id"], row["truncated"]) for row in rows] == [
        ("t.parquet:0", False),
        ("t.parquet:1", True),
        ("t.parquet:5", False),
    ]
    assert rows[0]["tokens"] < 16 < rows[1]["tokens"]
    reasons = dataset.dataset(tmp_path / "cut" / "quarantine").to_table()["reason"]
    assert reasons.to_pylist() == [refused] * 3
    run(*arguments[:1], tmp_path / "whole", *arguments[1:], "--refuse-long-texts")
    reasons = dataset.dataset(tmp_path / "whole" / "quarantine").to_table()["reason"]
    told = f"text: {rows[1]['tokens']} tokens, the model reads 16"
    assert reasons.to_pylist() == [told, *[refused] * 3]


@pytest.mark.kind("K5")
def test_images_say_what_was_read_of_them(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    wide = Image.new("RGBA", (64, 16), (255, 0, 0, 0))
    wide.save(tmp_path / "in" / "wide.png")
    (tmp_path / "in" / "square.png").write_bytes(image(1))
    columns = ["id", "framing", "image_share", "ground", "frames"]
    for framing, share in (("crop", 0.25), ("pad", 1.0)):
        run(tmp_path / "in", tmp_path / framing, "--framing", framing, *options(tiny_bundle))
        table = dataset.dataset(tmp_path / framing / "data").to_table().select(columns)
        square, still = table.to_pylist()
        assert (square["frames"], square["ground"], square["image_share"]) == (1, "", 1.0)
        assert (still["frames"], still["framing"], still["image_share"]) == (1, framing, share)
        assert re.fullmatch("#[0-9a-f]{6}", still["ground"])
