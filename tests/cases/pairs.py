"""Image-caption pairs that broke a version of this system, and how each kind of source holds them.

A case is a list of pairs, each with the outcome that is right. A writer puts a case into the files
of one kind of source, so that a new kind passes the same cases when it has a writer.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageDraw
from pyarrow import ipc, parquet

NO_IMAGE = "no image"
EMPTY = "the image is empty"
TOO_LARGE = "the image has more than 8388608 bytes"
CORRUPT = "image: truncated or corrupt"
NO_CAPTION = "no caption"
BLANK = "the caption is blank"
NOT_TEXT = "the caption is not a text"
NOT_UTF8 = "the caption is not UTF-8"
TOO_LONG = "the caption has more than 16384 characters"


def encoded(form: str = "PNG", colour: str = "white", side: int = 24) -> bytes:
    """A small image of a dot."""
    image = Image.new("RGB", (side, side), colour)
    ImageDraw.Draw(image).ellipse((6, 6, 18, 18), fill=(220, 60, 40))
    data = io.BytesIO()
    image.save(data, form)
    return data.getvalue()


PNG = encoded()


@dataclass(frozen=True, kw_only=True)
class WrittenPair:
    """A pair as somebody wrote it. Without a reason it is good, and its captions are `read`."""

    name: str = "a"
    image: bytes | None = PNG
    ending: str = ".png"
    caption: object = "a red dot"
    reason: str = ""
    read: tuple[str, ...] = ("a red dot",)


def bad(reason: str, **values: object) -> list[WrittenPair]:
    """A bad pair between two good ones."""
    first, last = WrittenPair(name="0"), WrittenPair(name="z")
    return [first, WrittenPair(name="bad", reason=reason, read=(), **values), last]  # type: ignore[arg-type]


def good(caption: object, *read: str) -> list[WrittenPair]:
    """One good pair."""
    return [WrittenPair(caption=caption, read=read)]


CASES: dict[str, list[WrittenPair]] = {
    "dots in names": [WrittenPair(name=name) for name in ("v1.2", "v1.3", "img.final", "a.b.c")],
    "odd names": [WrittenPair(name=name) for name in ("caf\u00e9", "two words", "\U0001f431")],
    "endings in capitals": [WrittenPair(name="a", ending=".PNG"), WrittenPair(name="b")],
    "few": [WrittenPair(name="a"), WrittenPair(name="b")],
    "one": [WrittenPair()],
    "None": bad(NO_CAPTION, caption=None),
    "empty caption": bad(BLANK, caption=""),
    "white caption": bad(BLANK, caption="   \n"),
    "invisible caption": bad(BLANK, caption="\u200b\u00ad\ufe0f"),
    "NaN": bad(NO_CAPTION, caption=float("nan")),
    "number": bad(NOT_TEXT, caption=5),
    "zero": bad(NOT_TEXT, caption=0),
    "object": bad(NOT_TEXT, caption={"en": "a dot"}),
    "list": good(["a dot", "a red dot"], "a dot", "a red dot"),
    "list with holes": good([None, " ", "a dot"], "a dot"),
    "list of nothing": bad(BLANK, caption=["", None]),
    "empty list": bad(NO_CAPTION, caption=[]),
    "list with a number": bad(NOT_TEXT, caption=["a dot", 3]),
    "long caption": bad(TOO_LONG, caption="dot " * 5000),
    "no image": bad(NO_IMAGE, image=None),
    "empty image": bad(EMPTY, image=b""),
    "large image": bad(TOO_LARGE, image=PNG + bytes(8 * 2**20)),
    "cut image": bad(CORRUPT, image=PNG[:-30]),
    "text for an image": bad("unsupported image", image=b"not an image"),
    "a GIF": [WrittenPair(image=encoded("GIF"), ending=".gif")],
    "a TIFF": bad("unsupported image: TIFF", image=encoded("TIFF"), ending=".tif"),
    "a TIFF named png": bad("unsupported image: TIFF", image=encoded("TIFF")),
    "all bad": [WrittenPair(name=f"{i}", caption="", reason=BLANK, read=()) for i in range(3)],
}

Writer = Callable[[Path, Sequence[WrittenPair]], None]


@dataclass(frozen=True, kw_only=True)
class SourceWriter:
    """Writes cases into a folder as one kind of source."""

    write: Writer
    can: Callable[[WrittenPair], bool] = field(default=lambda pair: True)
    """Whether this kind can hold such a pair at all."""
    is_typed: bool = False
    """Whether all captions of a file have one type: a column of lists holds no texts."""


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """A shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def pair_files(pair: WrittenPair) -> list[tuple[str, bytes]]:
    """The files of a pair: its image, and its caption as text, or as JSON where it is none."""
    files = [] if pair.image is None else [(f"{pair.name}{pair.ending}", pair.image)]
    if isinstance(pair.caption, str):
        return [*files, (f"{pair.name}.txt", pair.caption.encode())]
    return [*files, (f"{pair.name}.json", json.dumps({"caption": pair.caption}).encode())]


def _webdataset(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    write_tar(folder / "0.tar", [file for pair in pairs for file in pair_files(pair)])


def _files(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    for pair in pairs:
        for name, content in pair_files(pair):
            (folder / name).write_bytes(content)


def _list(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    lines = []
    for pair in pairs:
        name = None if pair.image is None else f"images/{pair.name}{pair.ending}"
        if name is not None and pair.image is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(pair.image)
        lines.append(json.dumps({"file_name": name, "text": pair.caption}))
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))


def image_table(pairs: Sequence[WrittenPair]) -> pa.Table:
    """Hugging Face's columns of images and texts."""
    images = [
        None if pair.image is None else {"bytes": pair.image, "path": f"{pair.name}{pair.ending}"}
        for pair in pairs
    ]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"image": pa.array(images, kind), "text": [pair.caption for pair in pairs]})


def write_stream(path: Path, table: pa.Table, rows: int = 2) -> None:
    """An Arrow stream, as Hugging Face's library writes it."""
    with pa.OSFile(str(path), "wb") as file, ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_saved(folder: Path, table: pa.Table) -> None:
    """What `save_to_disk` writes."""
    folder.mkdir(exist_ok=True)
    write_stream(folder / "data-00000-of-00001.arrow", table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def _table(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    parquet.write_table(image_table(pairs), folder / "0.parquet")


def _huggingface(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    write_saved(folder, image_table(pairs))


def _classes(folder: Path, pairs: Sequence[WrittenPair]) -> None:
    for pair in pairs:
        name = str(pair.caption).replace(" ", "_")
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{pair.name}{pair.ending}").write_bytes(pair.image or b"")


def _fits_table(pair: WrittenPair) -> bool:
    texts = pair.caption if isinstance(pair.caption, list) else [pair.caption]
    return all(text is None or isinstance(text, str) for text in texts)


WRITERS: Mapping[str, SourceWriter] = {
    "webdataset": SourceWriter(write=_webdataset),
    "list": SourceWriter(write=_list),
    "table": SourceWriter(write=_table, can=_fits_table, is_typed=True),
    "huggingface": SourceWriter(write=_huggingface, can=_fits_table, is_typed=True),
    "files": SourceWriter(write=_files),
    "classes": SourceWriter(
        write=_classes,
        # The name of a folder is a text, and a short one that is not blank.
        can=lambda pair: pair.caption == "a red dot" and pair.image is not None,
    ),
}
"""A writer for each kind that PAIR_SOURCES names."""


def case_writers() -> list[tuple[str, str]]:
    """Each case with each kind that can hold it."""
    return [
        (case, kind)
        for case, pairs in CASES.items()
        for kind, writer in WRITERS.items()
        if all(map(writer.can, pairs)) and not (writer.is_typed and _is_mixed(pairs))
    ]


def _is_mixed(pairs: Sequence[WrittenPair]) -> bool:
    return len({isinstance(pair.caption, list) for pair in pairs if pair.caption is not None}) > 1


def write_csv(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> None:
    """A CSV or TSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
