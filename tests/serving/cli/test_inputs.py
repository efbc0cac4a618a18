"""What a command line names, and how a command prints."""

from __future__ import annotations

import json
from pathlib import Path

import click
import grpc
import pytest

from serving.cli._inputs import concept_key, expand
from serving.cli._output import ResultWriter
from sparseclip import CallError, ItemStatus


def test_folders_become_their_images_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.JPG", "a.webp", "below/c.png", "notes.txt", "d.gif"):
        (tmp_path / name).touch()
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    missing = str(tmp_path / "missing.xyz")
    expected = [str(tmp_path / name) for name in ("a.webp", "b.JPG", "below/c.png", "d.gif")]
    assert expand([missing, str(tmp_path)]) == [missing, *expected]
    told = "left out 1 links to folders that are read already, 1 .txt"
    assert capsys.readouterr().err == f"{tmp_path}: {told}\n"


def test_addresses_and_empty_folders_are_usage_errors(tmp_path: Path) -> None:
    for argument in ("https://example.org/cat.png", "s3://bucket/cat.png", str(tmp_path)):
        with pytest.raises(click.UsageError):
            expand([argument])


@pytest.mark.parametrize(
    ("text", "key"), [("12", 12), ("dog", "dog"), ("-1", "-1"), ("1.5", "1.5"), ("٣", "٣")]
)
def test_a_number_is_an_id_and_anything_else_a_name(text: str, key: int | str) -> None:
    assert concept_key(text) == key


def test_rows_are_printed_as_objects_or_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (True, False):
        writer = ResultWriter("source", "name", as_json=as_json)
        writer.add({"source": "a", "name": "[b]"}, "a", "[b]")
        writer.close()
    first, *table = capsys.readouterr().out.splitlines()
    assert json.loads(first) == {"source": "a", "name": "[b]"}
    assert [line.split() for line in table] == [["source", "name"], ["a", "[b]"]]


def test_names_that_no_terminal_can_show_are_spelled(capsys: pytest.CaptureFixture[str]) -> None:
    name = "caf\udce9\n\x1b[31m.png"
    status = ItemStatus(code=grpc.StatusCode.INVALID_ARGUMENT, message="image: no")
    for as_json in (True, False):
        writer = ResultWriter("source", "error", as_json=as_json)
        writer.add({"source": name}, name, "")
        writer.fail(name, status)
        with pytest.raises(SystemExit):
            writer.close()
    lines = capsys.readouterr().out.splitlines()
    spelled = r"caf\xe9" + "\n\x1b[31m.png"
    assert [json.loads(line)["source"] for line in lines[:2]] == [spelled] * 2
    assert [line.split()[0] for line in lines[3:]] == [r"caf\xe9\n\x1b[31m.png"] * 2


def test_a_failed_row_ends_the_command_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    writer = ResultWriter("source", as_json=True)
    status = ItemStatus(code=grpc.StatusCode.INVALID_ARGUMENT, message="image: no")
    writer.fail("a", status)
    writer.fail_call("b", CallError(grpc.StatusCode.NOT_FOUND, "no such concept"))
    with pytest.raises(CallError):  # the next call would fail too
        writer.fail_call("c", CallError(grpc.StatusCode.UNAVAILABLE, "nobody listens"))
    with pytest.raises(SystemExit) as ended:
        writer.close()
    assert ended.value.code == 1
    codes = [json.loads(line)["error"]["code"] for line in capsys.readouterr().out.splitlines()]
    assert codes == ["INVALID_ARGUMENT", "NOT_FOUND"]
