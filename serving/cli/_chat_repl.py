"""The conversation of `sparseclip chat`: one question per line, and commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import click

from serving.cli._coverage import notes, warn_about_text
from serving.cli._edits import Edits, parse_edit, taken_as
from serving.cli._output import named
from serving.storage.file_names import printable, spell
from sparseclip import (
    CallError,
    ChatEnd,
    ChatImage,
    ChatMessage,
    ChatSampling,
    ChatStart,
    ChatUsage,
    Client,
    Edit,
    EditOperation,
    ImageConcepts,
    ImageFraming,
    ScoredConcept,
    Steering,
)

HELP = """\
Each line is a question, or a command:
  /set WORD[=VALUE], /add WORD=VALUE, /scale WORD=FACTOR, /suppress WORD
          edit what the model sees, and start a new conversation
  /reset  drop all edits, and start a new conversation
  /show   name the images' concepts before and after the edits of the last answer
  /new    start a new conversation
  /quit   end"""

_OPS: dict[str, EditOperation] = {
    "set": "SET",
    "add": "ADD",
    "scale": "SCALE",
    "suppress": "ABLATE",
}


_LENGTH_FIELDS = {"messages", "sampling.max_tokens"}
"""What a server refuses of a conversation that has grown too long."""


@dataclass(frozen=True, kw_only=True)
class ChatAnswer:
    """An answer, with its first and last event."""

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
        framing: ImageFraming | None = None,
    ) -> None:
        self._client, self._images = client, images
        self._edits, self._sampling = edits, sampling
        self._timeout, self._top, self._framing = timeout, top, framing
        self._history: list[ChatMessage] = []
        self._concepts: tuple[ImageConcepts, ...] = ()
        """What the last answer was based on, image by image."""
        self._warned: set[str] = set()
        self._said: set[Edit] = set()
        self._said_full = False

    def ask(self, question: str, show: Callable[[str], None]) -> ChatAnswer:
        """Asks a question, and passes the answer's text to `show` as it comes. Raises CallError."""
        history = [*self._history, ChatMessage(text=question)]
        steering = self._edits.steering
        images = [
            ChatImage(image=path, steering=steering, framing=self._framing) for path in self._images
        ]
        # The images belong to the first message, and every call sends the whole conversation.
        messages = [replace(history[0], images=images), *history[1:]]
        start, end, text = None, None, ""
        answer = self._client.chat(messages, sampling=self._sampling, timeout=self._timeout)
        with closing(answer) as events:
            for event in events:
                if isinstance(event, ChatStart):
                    start = event
                    self._warn(start)
                    self._say_edits(steering, start)
                end = event if isinstance(event, ChatEnd) else end
                text += event.text
                show(event.text)
        if start is None or end is None:
            raise click.ClickException("the server ended the answer early")
        if text.strip():  # the server refuses a message without text
            self._history = [*history, ChatMessage(role="assistant", text=text)]
        self._concepts = start.images
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
                    answer = self.ask(line, print_text)
                    click.echo()
                    self._say_fullness(answer.end.usage)
            except KeyboardInterrupt:  # ends the answer, not the conversation
                click.echo()
            except click.UsageError as error:
                click.echo(f"Error: {error.message}", err=True)
            except CallError as error:
                click.echo(f"Error: {error}", err=True)
                if self._history and {v.field for v in error.violations} & _LENGTH_FIELDS:
                    click.echo("The conversation is full: /new starts another one", err=True)

    def _warn(self, start: ChatStart) -> None:
        """Says, once for each image and phrase, what the model did not see or does not know."""
        for path, concepts in zip(self._images, start.images, strict=False):
            for note in notes(concepts.coverage, 0, active=len(concepts.before)):
                line = f"{printable(spell(path))}: {note}"
                if line not in self._warned:
                    self._warned.add(line)
                    click.echo(f"Warning: {line}", err=True)
        for entry in start.phrases:
            if entry.phrase not in self._warned:
                self._warned.add(entry.phrase)
                warn_about_text(entry.phrase, entry.coverage)

    def _say_edits(self, steering: Steering, start: ChatStart) -> None:
        """Says, once for each edit, which concepts it was taken as."""
        for position, edit in enumerate(steering.edits):
            if edit not in self._said:
                self._said.add(edit)
                click.echo(printable(taken_as(steering.edits, position, start.images)), err=True)

    def _say_fullness(self, usage: ChatUsage) -> None:
        """Says, once in each conversation, that it is over four fifths of the model's context."""
        # An older server does not name its context: it is 0.
        tokens, context = usage.prompt_tokens + usage.completion_tokens, usage.context_tokens
        if context and 5 * tokens > 4 * context and not self._said_full:
            self._said_full = True
            line = f"the talk fills {tokens} of {context} tokens; /new begins another"
            click.echo(line, err=True)

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name in _OPS:
            self._edits.put(parse_edit(_OPS[name], rest.strip(), self._top))
        elif name == "reset":
            self._edits.clear()
        elif name == "show":
            for image, concepts in zip(self._images, self._concepts, strict=False):
                click.echo(f"{image}\n  before: {_cell(concepts.before)}")
                click.echo(f"  after:  {_cell(concepts.after)}")
            return
        elif name != "new":
            raise click.UsageError(f"/{name}: no such command\n{HELP}")
        self._history, self._said_full = [], False
        click.echo(str(self._edits), err=True)


def print_text(text: str) -> None:
    """Prints a piece of an answer at once, without characters that could control a terminal."""
    click.echo("".join(c for c in text if c.isprintable() or c in "\n\t"), nl=False)
    sys.stdout.flush()


def _cell(concepts: Sequence[ScoredConcept]) -> str:
    return named([(entry.name, entry.value) for entry in concepts])


def _lines() -> Iterator[str]:
    """The lines of stdin, typed or piped, without blank ones."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() history and editing)
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
