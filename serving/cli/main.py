"""`sparseclip`: the entry point. Nothing heavy is imported before a subcommand is chosen."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import click

from serving.cli._process_end import plain_end

# When one of these cannot be imported, the install is broken: no extra would help.
_OWN_PACKAGES = frozenset(
    {"benchmarks", "bundle", "mllm_adapter", "serving", "sparseclip", "training"}
)


@dataclass(frozen=True, kw_only=True)
class LazyCommand:
    """A subcommand that is imported when it is called."""

    target: str
    """`module:attribute` of the click command."""
    help: str
    """Its line in `sparseclip --help`."""
    extra: str
    """The extra that installs what the command needs."""
    subcommands: Mapping[str, str] = field(default_factory=dict)
    """Subcommands that the first argument may name, with their targets."""


COMMANDS = {
    "serve": LazyCommand(
        target="serving.cli.serve:serve", help="Serve a bundle over gRPC and HTTP.", extra="serve"
    ),
    "health": LazyCommand(
        target="serving.cli.health:health",
        help="Say whether a server answers calls.",
        extra="serve",
    ),
    "embed": LazyCommand(
        target="serving.cli.embed:embed",
        help="Show which concepts images and texts hold.",
        extra="serve",
    ),
    "classify": LazyCommand(
        target="serving.cli.classify:classify",
        help="Score images against labels.",
        extra="serve",
    ),
    "concepts": LazyCommand(
        target="serving.cli.concepts:concepts",
        help="List, show and search the concepts of a model.",
        extra="serve",
    ),
    "explain": LazyCommand(
        target="serving.cli.explain:explain",
        help="Show where in an image concepts fire.",
        extra="serve",
    ),
    "export": LazyCommand(
        target="serving.cli.export:export",
        help="Embed a whole collection into files.",
        extra="export",
        subcommands={"verify": "serving.cli.export_verify:verify"},
    ),
    "report": LazyCommand(
        target="serving.cli.report:report",
        help="Summarise an export on one page.",
        extra="export",
    ),
    "index": LazyCommand(
        target="serving.cli.index:index",
        help="Put an export's codes into a vector database.",
        extra="index",
    ),
    "search": LazyCommand(
        target="serving.cli.search:search",
        help="Search a vector database by a text, an image or concepts.",
        extra="index",
    ),
    "mcp": LazyCommand(
        target="serving.cli.mcp:mcp",
        help="Serve tools for language models (MCP) over standard input and output.",
        extra="mcp",
    ),
    "engine": LazyCommand(
        target="serving.cli.engine:engine",
        help="List, build and measure what can run a model on this machine.",
        extra="serve",
    ),
    "chat": LazyCommand(
        target="serving.cli.chat:chat",
        help="Ask about images, and edit the concepts that answers come from.",
        extra="chat",
    ),
    "evaluate": LazyCommand(
        target="training.cli.evaluate:evaluate",
        help="Measure a model, or how well an adapter is steered, on held-out data.",
        extra="train,chat",
        subcommands={"steering": "mllm_adapter.cli.evaluate:steering"},
    ),
    "train": LazyCommand(
        target="training.cli.train:train", help="Train a model from a recipe.", extra="train"
    ),
    "import": LazyCommand(
        target="training.cli.import_model:import_model",
        help="Make a bundle of a CLIP of open_clip or Hugging Face.",
        extra="import",
    ),
    "sparsify": LazyCommand(
        target="training.cli.sparsify:sparsify",
        help="Make a dense bundle sparse, without training its towers.",
        extra="train",
    ),
    "data": LazyCommand(
        target="training.cli.data:data", help="Build and inspect data sets.", extra="train"
    ),
    "adapter": LazyCommand(
        target="mllm_adapter.cli.adapter:adapter",
        help="Train an adapter, through which an LLM reads codes, and attach it to a bundle.",
        extra="train,chat",
    ),
    "llm": LazyCommand(
        target="mllm_adapter.cli.adapter:llm",
        help="Fetch LLMs that come as Python packages.",
        extra="chat",
    ),
    "bundle": LazyCommand(
        target="training.cli.bundle:bundle",
        help="Export, verify and inspect bundles.",
        extra="train",
    ),
}


def _load(target: str) -> click.Command:
    module, attribute = target.split(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, click.Command):
        raise TypeError(f"{target} is not a command")
    return command


class CommandWithSubcommands(click.Command):
    """A command whose first argument may name a subcommand, or be an argument of the command."""

    def __init__(self, name: str, lazy: LazyCommand) -> None:
        super().__init__(name, help=lazy.help)
        self._lazy = lazy

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        name = args[0] if args else ""
        if name not in self._lazy.subcommands:
            return _load(self._lazy.target).make_context(info_name, args, parent, **extra)
        command = _load(self._lazy.subcommands[name])
        return command.make_context(f"{info_name} {name}", args[1:], parent, **extra)


class LazyGroup(click.Group):
    """A group that imports a subcommand only to run it, or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        try:
            return (
                CommandWithSubcommands(cmd_name, lazy) if lazy.subcommands else _load(lazy.target)
            )
        except ModuleNotFoundError as error:
            raise _missing(error, lazy.extra) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except SystemExit as end:
            # A server that was still loading in this process has threads that nothing can end, and
            # the interpreter would wait for them.
            in_process = sys.modules.get("serving.in_process")
            if in_process is not None and in_process.abandoned:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 1)
            raise

    def invoke(self, ctx: click.Context) -> object:
        # Without this, grpc writes its own log lines, with addresses, beside the one error line.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            with plain_end():
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            lazy = COMMANDS.get(ctx.invoked_subcommand or "")
            if lazy is None:
                raise
            raise _missing(error, lazy.extra) from None


def _missing(error: ModuleNotFoundError, extra: str) -> Exception:
    """The error for a missing module: one line that says what to install."""
    missing = (error.name or "").split(".")[0]
    if missing in _OWN_PACKAGES:
        return error
    return click.ClickException(f"this needs {error.name}: pip install 'sparseclip[{extra}]'")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version=version("sparseclip"), prog_name="sparseclip")
def main() -> None:
    """Sparse, named concepts of images and texts: train, serve, use."""


if __name__ == "__main__":
    main(prog_name="sparseclip")
