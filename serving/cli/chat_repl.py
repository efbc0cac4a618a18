"""The interactive conversation of `sparseclip chat`: a question a line, and commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import click

from serving.cli.edits import Edits, parse_edit
from serving.cli.output import named
from sparseclip import (
    CallError,
    ChatEnd,
    ChatImage,
    ChatMessage,
    ChatSampling,
    ChatStart,
    Client,
    EditOp,
    ImageConcepts,
)

HELP = """\
A line is a question. /set WORD[=VALUE], /add WORD=VALUE, /scale WORD=FACTOR and /suppress WORD
edit what the model sees and begin the conversation anew; /reset drops all edits. /show names the
images' concepts before and after the last answer, /new forgets the conversation, /quit ends."""

_OPS: dict[str, EditOp] = {"set": "SET", "add": "ADD", "scale": "SCALE", "suppress": "ABLATE"}


@dataclass(frozen=True, kw_only=True)
class ChatAnswer:
    """An answer with its first and last event."""

    start: ChatStart
    text: str
    end: ChatEnd


class ChatSession:
    """One conversation about some images."""

    def __init__(
        self,
        client: Client,
        images: Sequence[str],
        edits: Edits,
        sampling: ChatSampling,
        timeout: float,
        top: int,
    ) -> None:
        self._client, self._images = client, images
        self._edits, self._sampling = edits, sampling
        self._timeout, self._top = timeout, top
        self._said: list[ChatMessage] = []
        self._seen: tuple[ImageConcepts, ...] = ()

    def ask(self, question: str, show: Callable[[str], None]) -> ChatAnswer:
        """Asks, and shows the answer's text as it comes. Raises CallError."""
        asked = [*self._said, ChatMessage(text=question)]
        images = [ChatImage(image=p, steering=self._edits.steering) for p in self._images]
        messages = [replace(asked[0], images=images), *asked[1:]]
        start, end, text = None, None, ""
        answering = self._client.chat(messages, sampling=self._sampling, timeout=self._timeout)
        with closing(answering) as events:
            for event in events:
                start = event if isinstance(event, ChatStart) else start
                end = event if isinstance(event, ChatEnd) else end
                text += event.text
                show(event.text)
        if start is None or end is None:
            raise click.ClickException("the server ended the answer early")
        self._said = (
            [*asked, ChatMessage(role="assistant", text=text)] if text.strip() else self._said
        )
        self._seen = start.images
        return ChatAnswer(start=start, text=text, end=end)

    def run(self) -> None:
        """Reads lines until the end of the input or /quit."""
        click.echo(HELP, err=True)
        for line in _lines():
            if line == "/quit":
                return
            try:
                if line.startswith("/"):
                    self._command(line[1:])
                else:
                    self.ask(line, say)
                    click.echo()
            except KeyboardInterrupt:  # the answer ends, not the conversation
                click.echo()
            except click.UsageError as error:
                click.echo(f"Error: {error.message}", err=True)
            except CallError as error:
                click.echo(f"Error: {error}", err=True)

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name in _OPS:
            self._edits.put(parse_edit(_OPS[name], rest.strip(), self._top))
        elif name == "reset":
            self._edits.clear()
        elif name == "show":
            for image, seen in zip(self._images, self._seen, strict=False):
                click.echo(f"{image}\n  before: {_names(seen, False)}")
                click.echo(f"  after:  {_names(seen, True)}")
            return
        elif name != "new":
            raise click.UsageError(f"/{name}: no such command\n{HELP}")
        self._said = []
        click.echo(str(self._edits), err=True)


def say(text: str) -> None:
    """A piece of an answer, at once, without characters that would steer a terminal."""
    click.echo("".join(c for c in text if c.isprintable() or c in "\n\t"), nl=False)
    sys.stdout.flush()


def _names(seen: ImageConcepts, after: bool) -> str:
    concepts = seen.after if after else seen.before
    return named([(entry.name, entry.value) for entry in concepts])


def _lines() -> Iterator[str]:
    """What a person types, or a file holds; blank lines are left out."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives input() history and editing
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if line:
            yield line
