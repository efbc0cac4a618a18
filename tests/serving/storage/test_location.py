"""Where files are: what an error says about a file, and what about its store."""

from __future__ import annotations

import errno
from pathlib import Path

import botocore.exceptions
import pytest

from serving.storage.location import Location, LocationError


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
    with (
        pytest.raises(LocationError, match="^memory:///bucket/file: "),
        of_store().translate_errors(),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), OSError("Corrupt snappy compressed data."), KeyError("x")]
)
def test_what_is_wrong_with_a_file_stays(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, of_store().translate_errors():
        raise error
    assert caught.value is error


def of_store() -> Location:
    return Location.parse("memory://bucket/file")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocationError, match="file/new: file exists$"):
        Location.parse(str(tmp_path / "file")).at("new").write(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LocationError, match="folder: is a directory$"):
        Location.parse(str(tmp_path / "folder")).write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    file = Location.parse(str(tmp_path)).at("locks/one")
    with file.try_lock() as first, file.try_lock() as second:
        assert (first, second) == (True, False)
    with file.try_lock() as again:
        assert again


def test_nothing_is_locked_on_an_object_store() -> None:
    with of_store().try_lock() as first, of_store().try_lock() as second:
        assert first
        assert second
