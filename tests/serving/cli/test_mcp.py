"""`sparseclip mcp` as programs start it: the stock client of MCP over standard input and output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.serving.cli.conftest import Run
from tests.serving.support.server_process import environment
from tests.support.paths import ROOT


def started(*arguments: str | Path) -> StdioServerParameters:
    """The command in a process of its own."""
    command = ["-m", "serving.cli.main", "mcp", *map(str, arguments)]
    paths = {"PYTHONPATH": environment()["PYTHONPATH"]}
    return StdioServerParameters(command=sys.executable, args=command, env=paths)


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The answer of a tool that must succeed."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:
    """Why a tool does not answer."""
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    [content] = result.content
    return str(content.text)  # type: ignore[union-attr]


async def test_a_model_sees_four_tools_and_uses_them() -> None:
    images = ROOT / "docs" / "images"
    arguments = ("--root", images, "--bundle", ROOT / "models" / "demo")
    async with Client(started(*arguments), read_timeout_seconds=60) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            "search_images",
            "explain_image",
            "search_concepts",
            "compare_images",
        }
        for tool in tools.values():
            assert tool.description
            assert tool.annotations
            assert tool.annotations.read_only_hint
            assert tool.output_schema
        found = await call(client, "search_images", query="a dog", top=1)
        [image] = found["images"]
        assert image["path"] == str(images / "dog.png")
        report = await call(client, "explain_image", path=image["path"], top=2)
        assert len(report["concepts"]) == 2
        concepts = await call(client, "search_concepts", query="sailboat", top=1)
        assert concepts["concepts"][0]["name"] == "boat"
        compared = await call(client, "compare_images", first="cat.png", second="dog.png")
        assert 0 <= compared["similarity"] < 0.5
        for path, problem in (
            ("../install.md", "no such file in the allowed folders"),
            ("/etc/passwd", "no such file in the allowed folders"),
            ("http://127.0.0.1:9/a.png", "addresses are not fetched"),
        ):
            assert problem in await refusal(client, "explain_image", path=path)
        assert "must not be empty" in await refusal(client, "search_images", query="")
        assert "top" in await refusal(client, "search_images", query="a", top=51)


async def test_a_server_is_asked_and_no_file_is_read_without_a_root(address: str) -> None:
    async with Client(started("--server", address), read_timeout_seconds=60) as client:
        concepts = await call(client, "search_concepts", query="dog")
        assert concepts["concepts"]
        assert "--root" in await refusal(client, "explain_image", path="a.png")


@pytest.fixture
def database(run: Run, tiny_bundle: Path, images: Path, tmp_path: Path) -> str:
    """The images of a folder, exported and indexed."""
    options = ("--bundle", tiny_bundle, "--decoders", "1")
    exported = run("export", images, tmp_path / "codes", *options)
    address = f"qdrant:{tmp_path / 'database'}"
    indexed = run("index", tmp_path / "codes", address)
    assert indexed.code == 0, (exported, indexed)
    return address


async def test_a_database_is_searched_in_place_of_folders(
    database: str, address: str, images: Path
) -> None:
    arguments = ("--server", address, "--database", database, "--root", images)
    async with Client(started(*arguments), read_timeout_seconds=60) as client:
        found = await call(client, "search_images", query="a red circle")
        assert found["searched"] == "the database"
        assert {image["path"] for image in found["images"]} <= {"a.png", "b.jpg", "below/c.webp"}
        problem = await refusal(client, "search_images", query="a", folder="below")
        assert "a database is searched as a whole" in problem


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--root", "no-such-folder"), "--root"),
        (("--database", "no:where"), "no"),
        (("--database", "qdrant:no-such-folder"), "no-such-folder"),
        (("--tls",), "the TLS options need --server"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(
    run: Run, arguments: tuple[str, ...], problem: str
) -> None:
    ended = run("mcp", *arguments)
    assert ended.code != 0
    assert problem in ended.err
    assert ended.out == ""
