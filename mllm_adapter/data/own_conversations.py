"""A user's own conversations about images, in LLaVA's JSON format (arXiv 2304.08485).

A row is {"id", "image", "conversations": [{"from": "human" or "gpt", "value": "<image>\\n..."}]}.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_image
from bundle.progress import show_progress
from mllm_adapter.model.prompt import PromptMessage
from mllm_adapter.model.turns import Role
from training.data.data_recipe import DataError
from training.loading.sources._files import inside, read_image
from training.loading.sources.base import BadPairError, printable
from training.loading.tally import MAX_NAMED, by_number, too_many_bad

log = logging.getLogger(__name__)

_ROLES: dict[object, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_IMAGE = re.compile(r"\s*<image>\s*")


class BadConversationError(ValueError):
    """Why a row is not learned from; the message is a reason."""


class Conversation(NamedTuple):
    """A row: its messages, of which each answer is learned, and the paths of its images."""

    key: str
    messages: tuple[PromptMessage, ...]
    images: tuple[str, ...]
    """In the order in which the messages have them."""


class ConversationTally:
    """Counts rows, and names bad ones in the log."""

    def __init__(self, name: str) -> None:
        """`name` is that of the file."""
        self.name, self.found = name, 0
        self.reasons: Counter[str] = Counter()

    @property
    def bad(self) -> int:
        """The number of bad rows."""
        return self.reasons.total()

    def add_bad(self, key: str, reason: str) -> None:
        """Counts a bad row."""
        self.reasons[reason] += 1
        if self.bad <= MAX_NAMED:
            log.warning("bad conversation: %s: %s", key, reason)
        if self.bad == MAX_NAMED:
            log.warning("further bad conversations are counted only")

    def check(self) -> None:
        """Raises DataError when next to no row, or less than nine in ten, can be learned from."""
        if self.bad == self.found or too_many_bad(self.bad, self.found):
            raise DataError(f"conversations.path: {self.summary()}")

    def summary(self) -> str:
        """The counts in one line."""
        line = f"{self.name}: {self.found} conversations, {self.found - self.bad} good"
        return line + (f", {self.bad} bad ({by_number(self.reasons)})" if self.bad else "")


class OwnConversations:
    """The good rows of a file, and their images, each of which is there once."""

    def __init__(self, path: Path, images: Path | None = None) -> None:
        """Reads the rows and decodes every image once. Raises DataError."""
        self._folder = images or path.parent
        self.tally = ConversationTally(printable(path.name))
        rows: list[Conversation] = []
        for key, row in _rows(path):
            self.tally.found += 1
            try:
                rows.append(parse_row(key, row))
            except BadConversationError as error:
                self.tally.add_bad(key, str(error))
        names = list(dict.fromkeys(name for row in rows for name in row.images))
        problems = self._problems(names)
        self.images = [name for name in names if name not in problems]
        """Paths of the images that can be decoded, in the order of the rows."""
        self.rows: list[Conversation] = []
        for row in rows:
            problem = next((problems[name] for name in row.images if name in problems), None)
            if problem is None:
                self.rows.append(row)
            else:
                self.tally.add_bad(row.key, problem)

    def drop(self, problem_of: Callable[[Conversation], str | None]) -> None:
        """Takes rows with a problem out, such as those that are too long."""
        rows, self.rows = self.rows, []
        for row in rows:
            problem = problem_of(row)
            if problem is None:
                self.rows.append(row)
            else:
                self.tally.add_bad(row.key, problem)

    def decoded(self) -> Iterator[Image.Image]:
        """The images, one after another, as serving decodes them."""
        return (self._decode(name) for name in self.images)

    def digest_inputs(self) -> Iterator[str]:
        """What identifies the images: names, sizes and times of the files."""
        for name in self.images:
            status = (self._folder / name).stat()
            yield f"{name}\0{status.st_size}\0{status.st_mtime_ns}"

    def captions(self) -> dict[str, str]:
        """For images, the beginning of the first answer about each."""
        captions: dict[str, str] = {}
        for row in self.rows:
            for name in row.images[:1]:
                answer = next(m.text for m in row.messages if m.role == "assistant")
                captions.setdefault(name, " ".join(answer.split()[:MAX_CAPTION_WORDS]))
        return captions

    def texts(self) -> list[str]:
        """All words of the rows, for a tokenizer to learn from."""
        return [message.text for row in self.rows for message in row.messages]

    def _decode(self, name: str) -> Image.Image:
        return decode_image(read_image(inside(self._folder, name)), ImageLimits())

    def _problems(self, names: Iterable[str]) -> Mapping[str, str]:
        problems: dict[str, str] = {}
        names = list(names)
        with show_progress("reading", len(names), "images") as advance:
            for name in names:
                try:
                    self._decode(name)
                except (BadPairError, ImageError) as error:
                    problems[name] = str(error)
                advance()
        return problems


MAX_CAPTION_WORDS = 12
"""Words of an answer from which the projector starts."""


def parse_row(key: str, row: object) -> Conversation:
    """The conversation of a row. Its images come before the text of the message that names them,
    as in serving. Raises BadConversationError."""
    if isinstance(row, BadConversationError):
        raise row
    if not isinstance(row, dict):
        raise BadConversationError("not an object")
    images = _image_names(row)
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BadConversationError("conversations: no list of messages")
    messages = [_message(number, turn) for number, turn in enumerate(turns, 1)]
    spoken = messages[1:] if messages[0].role == "system" else messages
    expected = ["user", "assistant"] * (len(spoken) // 2)
    if not spoken or [message.role for message in spoken] != expected:
        raise BadConversationError("the messages do not alternate between human and gpt")
    if any(message.images for message in messages if message.role != "user"):
        raise BadConversationError("<image> in a message that is not of human")
    marks = sum(message.images for message in messages)
    if marks == 0 and images:  # the images of a row that says nothing about their place
        first = messages.index(spoken[0])
        asked = PromptMessage(role="user", text=messages[first].text, images=len(images))
        messages[first] = asked
    elif marks != len(images):
        raise BadConversationError(f"{marks} <image> for {len(images)} images")
    return Conversation(key, tuple(messages), images)


def _image_names(row: Mapping[str, Any]) -> tuple[str, ...]:
    value = row.get("image", row.get("images"))
    names = value if isinstance(value, list) else [] if value in (None, "") else [value]
    for name in names:
        try:
            inside(Path(), name)
        except BadPairError as error:
            raise BadConversationError(str(error)) from None
    return tuple(str(name).strip() for name in names)


def _message(number: int, turn: object) -> PromptMessage:
    at = f"message {number}"
    role = _ROLES.get(turn.get("from")) if isinstance(turn, dict) else None
    if role is None or not isinstance(turn, dict):
        raise BadConversationError(f"{at}: from: must be human or gpt")
    if role == "system" and number > 1:
        raise BadConversationError(f"{at}: only the first one may be the system's")
    value = turn.get("value")
    if not isinstance(value, str):
        raise BadConversationError(f"{at}: value: must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadConversationError(f"{at}: value: not valid Unicode") from None
    text, marks = _IMAGE.subn(" ", value)
    text = text.strip() if marks else value
    if not text.strip() and not marks:
        raise BadConversationError(f"{at}: value: must not be empty")
    return PromptMessage(role=role, text=text, images=marks)


def _rows(path: Path) -> Iterator[tuple[str, object]]:
    """Each row with its key, or a BadConversationError. Raises DataError."""
    name = printable(path.name)
    try:
        # Text that is not UTF-8 costs its own row: it becomes surrogates, which no text may hold.
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            first = next((line for line in lines if line.strip()), "")
            lines.seek(0)
            if not first.lstrip().startswith("["):
                yield from _json_lines(lines, name)
                return
            rows = json.load(lines)
    except (OSError, RecursionError):
        raise DataError(f"conversations.path: {name}: cannot be read") from None
    except json.JSONDecodeError as error:
        raise DataError(f"conversations.path: {name}: not JSON at line {error.lineno}") from None
    for number, row in enumerate(rows, 1):
        yield _key(name, number, row), row


def _json_lines(lines: Iterable[str], name: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: object = json.loads(line)
        except (ValueError, RecursionError):
            row = BadConversationError("not JSON")
        yield _key(name, number, row), row


def _key(name: str, number: int, row: object) -> str:
    """The row's number in the file, and its id where it has one."""
    id_ = row.get("id") if isinstance(row, dict) else None
    return f"{name}:{number}" + (f" ({printable(str(id_)[:80])})" if id_ is not None else "")
