"""A folder that is no bundle is refused by every command that takes one, with the name of what the
user typed and what to do. A new command with a bundle meets the case without a word here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bundle.bundle_path import BundlePath
from serving.cli.main import COMMANDS, _load, main

pytestmark = pytest.mark.kind("K8")

WORDS = "is no bundle: it has neither manifest.json nor CURRENT. `sparseclip import` makes"


def doors(names: tuple[str, ...], command: click.Command) -> Iterator[tuple[list[str], str]]:
    """What a user types before the folder, and what the error calls it."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from doors((*names, name), below)
    for parameter in command.params:
        if isinstance(parameter.type, BundlePath):
            option = [parameter.opts[0]] if isinstance(parameter, click.Option) else []
            yield [*names, *option], parameter.get_error_hint(click.Context(command))
        else:
            served = names == ("serve",)  # its options are the fields of its configuration
            assert served or "bundle" not in (parameter.name or ""), (names, parameter.name)


def all_doors() -> list[tuple[list[str], str]]:
    rows = []
    for name, lazy in COMMANDS.items():
        rows += doors((name,), _load(lazy.target))
        for below, target in lazy.subcommands.items():
            rows += doors((name, below), _load(target))
    return rows


@pytest.mark.parametrize(("words", "called"), [*all_doors()], ids=lambda words: " ".join(words))
def test_a_folder_that_is_no_bundle(words: list[str], called: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*words, str(tmp_path)])
    line = f"Error: Invalid value for {called}: Directory '{tmp_path}' {WORDS}"
    assert (done.exit_code, done.output.splitlines()[-1][: len(line)]) == (2, line)


def test_all_commands_with_a_bundle_are_asked() -> None:
    asked = {" ".join(words) for words, _ in all_doors()}
    assert {"bundle verify", "sparsify", "export --bundle", "evaluate steering --bundle"} <= asked
    assert len(asked) >= 14


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["serve", "--port", "0", "--bundle"], "sparseclip serve: bundle: empty: the folder "),
        (
            ["evaluate"],
            "Error: MODEL: empty: neither a bundle (manifest.json or ",
        ),
        (["adapter", "train", "demo", "--set", "bundle="], "Error: bundle: the folder "),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_folder_that_may_be_more_than_a_bundle(
    words: list[str], line: str, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    typed = " ".join([*words, str(folder)]).replace("= ", "=").split()
    done = CliRunner().invoke(main, typed)
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith(line)


def test_the_variable_of_the_default_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSECLIP_BUNDLE", str(tmp_path))
    done = CliRunner().invoke(main, ["embed", "--text", "a dog"])
    assert (done.exit_code, done.output.startswith("Error: SPARSECLIP_BUNDLE: the folder is")) == (
        1,
        True,
    )
