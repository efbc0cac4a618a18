"""Where files are: what an error says about a file, and what about its store."""

from __future__ import annotations

import errno
from pathlib import Path

import botocore.exceptions
import pytest

from serving.storage.location import Part, Place, PlaceError, read_many


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("The provided token has expired."),
        TimeoutError("The request took too long"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError(errno.EBUSY, "Please reduce your request rate."),
        botocore.exceptions.NoCredentialsError(),
    ],
)
def test_what_a_store_answers_is_not_of_the_file(error: Exception) -> None:
    with pytest.raises(PlaceError, match="^memory:///bucket/file: "), of_store().told():
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), OSError("Corrupt snappy compressed data."), KeyError("x")]
)
def test_what_is_wrong_with_a_file_stays(error: Exception) -> None:
    with pytest.raises(type(error)) as told, of_store().told():
        raise error
    assert told.value is error


def of_store() -> Place:
    return Place.of("memory://bucket/file")


def test_files_of_several_stores_are_read_in_their_order(tmp_path: Path) -> None:
    here, there = Place.of(str(tmp_path)), Place.of("memory://several")
    parts = []
    for number in range(150):
        place = (here, there)[number // 3 % 2].at(f"folder/../{number}")
        if number % 10:
            place.write(str(number).encode())
        parts.append(Part(place, 1 if number >= 100 else 0))
    for number, found in enumerate(read_many(parts)):
        if number % 10:
            assert found == str(number)[number >= 100 :].encode()
        else:
            assert isinstance(found, FileNotFoundError)
    assert (tmp_path / "1").exists()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlaceError, match="file/new: file exists$"):
        Place.of(str(tmp_path / "file")).at("new").write(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PlaceError, match="folder: is a directory$"):
        Place.of(str(tmp_path / "folder")).write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
