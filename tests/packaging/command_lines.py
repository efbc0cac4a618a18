"""Checks the commands of a shell block against what the commands accept, without running them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from unittest import mock

import click

from serving.cli._config_options import options as config_options
from serving.cli.main import main
from serving.core.config import ServerConfig
from tests.support.paths import ROOT
from training.cli.train import train

OTHER_PROGRAMS = {
    *("buf", "cat", "cd", "curl", "export", "git", "node", "npm", "pre-commit", "printf", "source"),
}
"""Programs of others that a block may call; a name outside is taken for a typing error."""

_KEYWORDS = {"do", "else", "then", "!"}
_LOOPS = {"done", "fi", "for", "if", "while"}
_SEPARATORS = {"|", "||", "&", "&&", ";", ";;", "(", ")"}
_REDIRECTIONS = {"<", ">", ">>", ">&"}
_EXTRAS = re.compile(r"(?:sparseclip|\.)\[([^\]]+)\]")
_OPTIONS = re.compile(r'"(--[a-z][a-z0-9-]*(?:/--[a-z0-9-]+)?)"')
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


class CommandError(ValueError):
    """A command that its program would refuse; the message says why."""


class IncompleteCommandError(CommandError):
    """A command that lacks an argument, or a group's command."""


def check_block(code: str) -> None:
    """Raises CommandError for the first command of a block that its program would refuse."""
    for words in simple_commands(code):
        check_command(words)


def simple_commands(code: str) -> Iterator[list[str]]:
    """The commands of a block, each as its words, without variables, comments and redirections."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        tokens = iter(lexer)
        for token in tokens:
            if token in _SEPARATORS:
                yield from _without_variables(words)
                words = []
            elif token in _REDIRECTIONS:
                next(tokens)
            else:
                words.append(token)
        yield from _without_variables(words)


def _without_variables(words: Sequence[str]) -> Iterator[list[str]]:
    rest = list(words)
    while rest and (rest[0] in _KEYWORDS or re.match(r"^\w+=", rest[0])):
        rest.pop(0)
    if rest and rest[0] not in _LOOPS:
        yield rest


def check_command(words: Sequence[str]) -> None:
    """Raises CommandError for a command that its program would refuse."""
    program, arguments = words[0], list(words[1:])
    checks: dict[str, Callable[[list[str]], None]] = {
        "make": _check_make,
        "pip": _check_pip,
        "python": _check_python,
        "sparseclip": lambda rest: check_click(main, "sparseclip", rest),
        "torchrun": _check_torchrun,
    }
    if program in checks:
        checks[program](arguments)
    elif program.startswith("examples/"):
        if not (ROOT / program).is_file():
            raise CommandError(f"{program}: no such file")
    elif program not in OTHER_PROGRAMS:
        raise CommandError(f"{program}: no program that command_lines.py knows")


def check_click(command: click.Command, name: str, arguments: list[str]) -> None:
    """Parses a command line as click would, without running it; files need not exist.

    Raises CommandError for an unknown command or option, a missing argument or a wrong value.
    """

    def unchecked(self: click.Path, value: str, *_: object) -> object:
        return self.coerce_path_result(value)

    with mock.patch.object(click.Path, "convert", unchecked):
        try:
            _parse(command, name, arguments, None)
        except click.exceptions.Exit:  # --help and --version end the parsing
            return
        except click.exceptions.NoArgsIsHelpError:
            raise IncompleteCommandError(f"{name}: Missing command") from None
        except click.ClickException as error:
            incomplete = isinstance(error, click.MissingParameter)
            kind = IncompleteCommandError if incomplete else CommandError
            message = f"{' '.join([name, *arguments])}: {error.format_message()}"
            raise kind(message) from None


def _parse(
    command: click.Command, name: str, arguments: list[str], parent: click.Context | None
) -> None:
    with command.make_context(name, list(arguments), parent=parent) as context:
        group = context.command
        if isinstance(group, click.Group):
            rest = [*context._protected_args, *context.args]
            called, subcommand, rest = group.resolve_command(context, rest)
            assert subcommand is not None
            _parse(subcommand, called or "", rest, context)


def _check_make(arguments: list[str]) -> None:
    for target in arguments:
        if not target.startswith("-") and "=" not in target and target not in make_targets():
            raise CommandError(f"make {target}: no such target")


def _check_pip(arguments: list[str]) -> None:
    for extra in extras_named(" ".join(arguments)):
        if extra not in extras():
            raise CommandError(f"pip install: sparseclip has no extra {extra!r}")
    for path in (word for word in arguments if word.endswith(".txt")):
        if not (ROOT / path).is_file():
            raise CommandError(f"pip install: no file {path}")


def _check_python(arguments: list[str]) -> None:
    """`python -m MODULE --OPTION` and `python FILE --OPTION`, options by the file's text."""
    if arguments[:2] == ["-m", "venv"] or not arguments:
        return
    if arguments[0] == "-m":
        name, rest = arguments[1], arguments[2:]
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise CommandError(f"python -m {name}: no such module")
        path = Path(spec.origin)
    else:
        name, rest = arguments[0], arguments[1:]
        path = ROOT / name
        if not path.is_file():
            raise CommandError(f"python {name}: no such file")
    source = path.read_text()
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        if f'"{option}"' not in source:
            raise CommandError(f"python {name}: {path.name} has no option {option}")


def _check_torchrun(arguments: list[str]) -> None:
    module = arguments.index("-m") + 1
    if arguments[module] != "training":
        raise CommandError(f"torchrun -m {arguments[module]}: no module to train with")
    check_click(train, "training", arguments[module + 1 :])


@cache
def known_options() -> set[str]:
    """The options that commands and benchmarks declare, and those of the server's settings."""
    options = {flag for option in config_options(ServerConfig) for flag in option.opts}
    for folder in ("benchmarks", "mllm_adapter/cli", "serving/cli", "training/cli"):
        for path in (ROOT / folder).rglob("*.py"):
            for literal in _OPTIONS.findall(path.read_text()):
                options |= set(literal.split("/"))
    return options


@cache
def make_targets() -> set[str]:
    """The targets that the Makefile defines."""
    return set(_TARGET.findall((ROOT / "Makefile").read_text()))


@cache
def extras() -> set[str]:
    """The extras of the distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def extras_named(text: str) -> list[str]:
    """The extras in requirements such as `sparseclip[serve,demo]`."""
    return [extra for group in _EXTRAS.findall(text) for extra in group.split(",")]
